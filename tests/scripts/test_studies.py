"""The studies: arms that are compared differ in what they are meant to differ in; seeds before clusters."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

import pytest

from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in ("studies", "study_itertl"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import study_itertl  # type: ignore[import-not-found]

    return study_itertl


def test_itertl_s_arms_have_as_many_samples_and_steps(study: ModuleType) -> None:
    args = argparse.Namespace(iterations=3, steps=16, prompts=20, overrides=[])
    samples, steps = {}, {}
    for arm in ("iterative", "non-iterative", "one-round"):
        composed = compose_recipe(study.overrides("none", arm, 0, args))
        nodes = build_plan(check(composed.raw, base=Path.cwd()), provisional=True).nodes
        samples[arm] = sum(n.stage.n for n in nodes.values() if n.name == "sample")  # type: ignore[attr-defined]
        steps[arm] = sum(n.stage.training.max_steps for n in nodes.values() if n.name == "train")  # type: ignore[attr-defined]
    assert samples == {"iterative": 12, "non-iterative": 12, "one-round": 4}
    assert set(steps.values()) == {48}
    names = {study.name_of("none", arm, 0, args) for arm in study.ARMS}
    assert len(names) == len(study.ARMS)


def test_differences_are_taken_over_clusters(study: ModuleType) -> None:
    import studies  # type: ignore[import-not-found]

    ours = {f"p{n}": float(n < 6) for n in range(12)}
    theirs = dict.fromkeys(ours, 0.0)
    clusters = {p: str(n // 3) for n, p in enumerate(ours)}
    alone, together = (studies.mean_difference(ours, theirs, of) for of in ({}, clusters))
    assert alone[0] == together[0] == 0.5
    assert together[2] - together[1] > 1.2 * (alone[2] - alone[1])
    assert studies.interval([0.1, 0.2, 0.3]) == "0.200 ± 0.248"

"""`upo.choose`: every candidate is accounted for, alpha by mode, what it refuses."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from itercli.papers.upo.choose import Choose
from itercli.preference.uncertainty import LN2
from itercli.records import Message, PreferencePair
from itercli.stages.base import StageError
from tests.conftest import Project
from tests.recipe.test_plan import errors, toy
from tests.stages.context import Context, run


def made(prompt: str, index: int = 0, **fields: Any) -> PreferencePair:
    return PreferencePair(**{
        "prompt_id": prompt, "index": index, "messages": [Message(role="user", content=prompt)],
        "chosen": f"{prompt} good {index}", "rejected": f"{prompt} bad {index}", "origin": "all_ordered",
    } | fields)  # fmt: skip


def estimated(prompts: int = 60) -> list[PreferencePair]:
    """Three pairs of each prompt, BALD over the whole range, every sixth voted down."""
    rng = random.Random(11)
    return [
        made(
            f"p{p}", n, rewards=(1.0 + rng.random(), rng.random()), probabilities=[(0.6, 0.4)],
            bald=rng.random() * LN2, vote=0.1 if (3 * p + n) % 6 == 0 else 0.9,
        )
        for p in range(prompts)
        for n in range(3)
    ]  # fmt: skip


def labelled(count: int = 30) -> list[PreferencePair]:
    return [made(f"l{i}", sources=("labelled", "labelled"), origin="labelled") for i in range(count)]


def chosen(of: list[PreferencePair], *, seed: int = 0, **options: Any) -> Context:
    given = {slot: options.pop(f"{slot}_rows", None) for slot in ("labelled", "margin")}
    slots = {slot: rows for slot, rows in given.items() if rows is not None}
    stage = Choose(of="estimate", **{slot: slot for slot in slots}, **options)
    return run(stage, seed, of=of, **slots)


def test_every_candidate_is_there_with_a_reason_an_origin_and_its_rule() -> None:
    of = estimated()
    found = chosen(of, labelled_rows=labelled())
    assert len(found.rows) == 180 + 30
    assert sum(found.counts.values()) == len(found.rows)
    assert found.counts == Counter(f"{'kept' if r.kept else 'dropped'}: {r.reason}" for r in found.rows)
    assert found.counts["dropped: disagreement"] == 30
    kept = [r for r in found.rows if r.kept]
    assert {r.origin for r in kept} == {"easy", "hard", "margin", "labelled"}
    assert all(r.origin == r.reason for r in kept)
    assert all(r.meta["rule"] == ("labelled" if r.prompt_id[0] == "l" else "all_ordered") for r in found.rows)
    assert all(r.origin == "all_ordered" for r in found.rows[:180] if not r.kept)
    for before, after in zip([*of, *labelled()], found.rows, strict=True):
        changed = {"kept", "reason", "origin", "alpha", "meta"}
        assert before.model_dump(exclude=changed) == after.model_dump(exclude=changed)
    assert found.counts["kept: labelled"] == 12
    assert max(Counter(r.prompt_id for r in kept).values()) == 1


def test_alpha_grows_with_uncertainty_and_labelled_pairs_have_none() -> None:
    rows = chosen(estimated(), labelled_rows=labelled()).rows
    assert all(r.alpha == pytest.approx(0.3 * r.bald / LN2) for r in rows if r.bald is not None)
    assert all(r.alpha < 0.5 for r in rows)
    assert {r.alpha for r in rows if r.bald is None} == {0.0}
    assert {r.alpha for r in chosen(estimated(), alpha="none").rows} == {0.0}
    assert all(1 / 11 <= r.alpha < 0.25 for r in chosen(estimated(), alpha="recip").rows)


def test_the_papers_alpha_is_warned_of(project: Project) -> None:
    found = chosen(estimated(), alpha="paper")
    assert all(0.5 <= r.alpha < 1 for r in found.rows)
    ((kind, fields),) = found.events
    assert kind == "warning"
    assert "prefers the rejected" in fields["text"]
    assert chosen(estimated()).events == []
    choose = {"uses": "upo.choose", "of": "pair", "alpha": "paper"}
    plan = toy(project, loop__pair={"uses": "pair", "of": "score"}, loop__choose=choose)
    assert any("choose: alpha: paper" in note for note in plan.notes)


@pytest.mark.parametrize("selection", ["random", "margin", "cb_rr", "none"])
def test_baselines_need_no_estimator_and_use_none(selection: str) -> None:
    plain = [r.model_copy(update={"probabilities": [], "bald": None, "vote": None}) for r in estimated()]
    found = chosen(plain, selection=selection, labelled_rows=labelled())
    assert found.counts[f"kept: {selection}"] > 10
    assert found.counts["kept: labelled"] == 12
    assert {r.alpha for r in chosen(estimated(), selection=selection).rows} == {0.0}


def test_uncertainty_without_probabilities_names_the_fix() -> None:
    plain = [r.model_copy(update={"bald": None, "vote": None}) for r in estimated(3)]
    with pytest.raises(StageError, match=r"here: pairs of estimate have no probabilities.*selection=random"):
        chosen(plain)
    bare = [r.model_copy(update={"rewards": None}) for r in estimated(3)]
    with pytest.raises(StageError, match="set margin_share=0"):
        chosen(bare)
    assert chosen(bare, margin_share=0).counts
    with pytest.raises(StageError, match="set selection=random"):
        chosen(bare, selection="margin")


def test_margin_pairs_of_a_stage_of_their_own_are_joined() -> None:
    of = estimated(20)
    same = [of[0].model_copy(update={"origin": "best_worst"})]
    other = {"chosen": "best", "rejected": "worst", "rewards": (3, 0), "origin": "best_worst"}
    others = [made(f"p{p}", **other) for p in range(1, 20)]
    found = chosen(of, margin_rows=same + others, easy=0, hard=0, margin_share=1)
    assert len(found.rows) == 60 + 19  # the pair that was there comes once
    assert {r.meta["rule"] for r in found.rows if r.kept} == {"best_worst"}
    assert found.counts["kept: margin"] == 19  # the first one is voted down
    assert found.rows[0].reason == "disagreement"


def test_what_was_dropped_before_stays_dropped() -> None:
    of = [made("p", 0, rewards=(1, 0)), made("q", 0, rewards=(1, 0), kept=False, reason="too long")]
    found = chosen(of, selection="none")
    assert [(r.kept, r.reason) for r in found.rows] == [(True, "none"), (False, "too long")]


def test_no_candidates_leave_an_empty_artifact() -> None:
    assert chosen([]).rows == []
    assert chosen([], selection="margin").rows == []


def test_same_seed_same_pairs() -> None:
    assert chosen(estimated()).rows == chosen(estimated()).rows
    assert chosen(estimated()).rows != chosen(estimated(), seed=1).rows


def test_options_that_would_reverse_labels_are_refused(project: Project) -> None:
    pair = {"uses": "pair", "of": "score"}
    choose = {"uses": "upo.choose", "of": "pair"}
    for wrong in ({"alpha_max": 0.5}, {"alpha_mu": 3}):
        (key,) = wrong
        found = errors(project, loop__pair=pair, loop__choose={**choose, **wrong})
        assert list(found) == [f"loop.choose.{key}"]
    assert "needs pairs" in errors(project, loop__choose={**choose, "of": "score"})["loop.choose.of"]
    all_of = errors(project, loop__pair=pair, loop__choose={**choose, "labelled": "all.pair"})
    assert "same keys" in all_of["loop.choose.labelled"]

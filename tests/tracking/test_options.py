"""Trackers in recipes and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import Recipe, check
from itercli.tracking.wandb import Wandb
from tests.conftest import Project


def recipe(project: Project, *overrides: str) -> Recipe:
    composed = compose_recipe([f"recipe={project.path / 'toy.yaml'}", *overrides])
    return check(composed.raw, base=project.path, locate=composed.locate)


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["tracker=none"], []),
        (["tracker=wandb"], ["wandb"]),
        (["tracker=[wandb,tensorboard]"], ["wandb", "tensorboard"]),
        (["tracker={wandb: {project: mine}}"], ["wandb"]),
        (["tracker=[mlflow,wandb]", "tracker.wandb.project=mine"], ["mlflow", "wandb"]),
    ],
)
def test_from_the_shell(project: Project, overrides: list[str], names: list[str]) -> None:
    trackers = recipe(project, *overrides).config.tracker
    assert list(trackers) == names
    if "mine" in overrides[-1]:
        assert trackers["wandb"].project == "mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("written", "names"),
    [("none", []), (None, []), ("record", ["record"]), (["record", "none"], ["record"]),
     ({"record": None}, ["record"]), ({"name": "record", "samples": 3}, ["record"]), ({"name": "none"}, [])],
)  # fmt: skip
def test_as_written_in_a_recipe(project: Project, written: Any, names: list[str]) -> None:
    raw = recipe(project).raw | {"tracker": written}
    assert list(check(raw, base=project.path).config.tracker) == names


def test_a_tracker_changes_neither_keys_nor_the_name_of_the_run(project: Project) -> None:
    plain = build_plan(recipe(project))
    tracked = build_plan(recipe(project, "tracker=[wandb,tensorboard]", "tracker.wandb.samples=5"))
    assert tracked.name == plain.name
    assert [n.key for n in tracked.nodes.values()] == [n.key for n in plain.nodes.values()]


@pytest.mark.parametrize(
    ("override", "key", "near"),
    [
        ("tracker=[wandb,tensorbord]", "tracker", "tensorboard"),
        ("tracker.wandb.projct=x", "tracker.wandb.projct", "project"),
        ("tracker.wandb.mode=ofline", "tracker.wandb.mode", "offline"),
    ],
)
def test_misspelt(project: Project, override: str, key: str, near: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(project, override)
    (problem,) = caught.value.problems
    assert (problem.key, problem.nearest) == (key, near)
    assert problem.where == f"command line: {override}"


def test_a_missing_package_is_said_before_anything_runs(project: Project) -> None:
    with pytest.raises(RecipeError, match=r"pip install 'itercli\[absent\]'"):
        recipe(project, "tracker={absent: {}}")


@pytest.mark.parametrize(
    ("env", "netrc", "mode", "now"),
    [
        ({}, "", "auto", "offline"),
        ({"WANDB_API_KEY": "x"}, "", "auto", "online"),
        ({"WANDB_API_KEY": "x", "WANDB_MODE": "offline"}, "", "auto", "offline"),
        ({"WANDB_MODE": "disabled"}, "", "online", "online"),
        ({}, "machine api.wandb.ai login user password x", "auto", "online"),
        ({}, "machine example.org login user password x", "auto", "offline"),
    ],
)
def test_wandb_mode_is_decided_without_asking(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, env: dict[str, str], netrc: str, mode: Any, now: str
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(netrc + "\n")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert Wandb(mode=mode).mode_now() == now

"""Trackers in recipes and on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import Recipe, check
from itercli.tracking import wandb as module
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
    ("account", "named", "mode", "now"),
    [
        (False, "", "auto", "offline"),
        (True, "", "auto", "online"),
        (True, "offline", "auto", "offline"),
        (False, "disabled", "auto", "disabled"),
        (False, "disabled", "online", "online"),
    ],
)
def test_mode_of_wandb(
    monkeypatch: pytest.MonkeyPatch, account: bool, named: str, mode: Any, now: str
) -> None:
    monkeypatch.setattr(module, "has_account", lambda: account)
    monkeypatch.setenv("WANDB_MODE", named)
    assert Wandb(mode=mode).mode_now() == now


def test_account_of_wandb(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    code = (
        "import os; from itercli.tracking.wandb import has_account; assert not has_account();"
        "os.environ['WANDB_API_KEY'] = 'a' * 40; assert has_account()"
    )
    env = {n: v for n, v in os.environ.items() if not n.startswith("WANDB")} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, check=True, timeout=120)

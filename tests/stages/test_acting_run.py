"""Search, rollout and metrics in a run of their own: workers, closing table, what `iter samples` says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Project

TESTS = Path(__file__).parents[1]
RECIPE = f"""\
# @package _global_
name: doors
iterations: 1
headline: evaluate.success
plugins: [{TESTS}/toy/toy_plugin.py, {TESTS}/environments/toy.py]
roles: {{policy: {{path: model}}}}
sampler: {{name: toy}}
loop:
  tasks: {{uses: prompts, source: {{name: test.doors, doors: ["2", "01", "112"]}}}}
  search: {{uses: search, role: policy, prompts: tasks, environment: test.doors, simulations: 2}}
  play: {{uses: rollout, role: policy, prompts: tasks, environment: test.doors, n: 2, max_turns: 5}}
  evaluate: {{uses: episode_metrics, of: play, by: rooms}}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project in which the recipe has been run, and what that printed."""
    from tests.conftest import make_project

    project = make_project(tmp_path_factory.mktemp("doors"))
    (project.path / "doors.yaml").write_text(RECIPE)
    return project, project.iter("run", "recipe=doors.yaml").stdout


def test_the_closing_table_has_the_metrics_of_episodes(ran: tuple[Project, str]) -> None:
    project, out = ran
    assert "search: done in" in out
    table = out[out.index(" iter") :]
    assert "success" in table
    assert "repeats@2" in table
    shown = json.loads(project.iter("show", "--json").stdout)
    score = shown["metrics"]["evaluate.score"]["1"]
    assert score["low"] <= score["value"] <= score["high"]
    assert score["prompts"] == 3
    assert shown["groups"]["evaluate"]["iterations"]["1"].keys() == {"1", "2", "3"}
    search = next(s for s in shown["stages"] if s["uses"] == "search")
    assert search["counts"]["simulations"] >= 3


def test_samples_show_episodes_and_trees(ran: tuple[Project, str]) -> None:
    project, _ = ran
    told = project.iter("samples", "--stage", "play", "--outcome", "done").stdout
    assert "Find the way out." in told
    assert "turn 1: reward" in told
    drawn = project.iter("samples", "--tree", "--prompt", "doors 112").stdout
    assert "(start)" in drawn
    assert "└ " in drawn
    rows = json.loads(project.iter("samples", "--stage", "search", "--json").stdout)
    assert rows["kind"] == "trees"
    assert rows["samples"][2]["tree"]["nodes"][0]["parent"] is None


def test_wrong_environments_are_found_in_the_plan(ran: tuple[Project, str]) -> None:
    project, _ = ran
    done = project.iter("plan", "recipe=doors.yaml", "loop.play.environment=test.doorz", check=False)
    assert done.returncode == 2
    assert "did you mean: test.doors" in done.stderr
    wrong = "loop.play.environment=[{name: test.doors, instances: 0}]"
    said = project.iter("plan", "recipe=doors.yaml", wrong, check=False)
    assert "1 problem in recipe doors" in said.stderr
    assert "loop.play.environment.0.instances" in said.stderr

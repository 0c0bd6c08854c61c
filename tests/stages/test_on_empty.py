"""`on_empty`: what a train stage does when the selector kept nothing."""

from __future__ import annotations

import json

from itercli.engine.runs import all_runs
from tests.conftest import Project

NOTHING = "loop.build.selector={name: toy, keep: false}"


def level(project: Project, iteration: int) -> int:
    """Level of the toy policy that an iteration's train stage left."""
    run = all_runs(project.path / "runs")[0]
    entry = run.entry(f"iteration-{iteration:02d}/train")
    assert entry is not None
    layout = json.loads((entry.path / "model.json").read_text())
    folder = project.path / "model" if layout["base"] is None else entry.path.parents[1] / layout["base"]
    return json.loads((folder / "config.json").read_text())["level"]


def test_fail_names_the_stage_and_the_ways_out(project: Project) -> None:
    done = project.run_toy(NOTHING, check=False)
    assert done.returncode == 1
    for part in ("iteration-01/train failed", "no examples", "iteration-01/build is empty", "on_empty=skip"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_skip_keeps_the_model_and_goes_on(project: Project) -> None:
    project.run_toy(NOTHING, "loop.train.on_empty=skip")
    assert [level(project, 1), level(project, 2)] == [0, 0]


def test_reuse_has_nothing_in_the_first_iteration(project: Project) -> None:
    done = project.run_toy(NOTHING, "loop.train.on_empty=reuse", check=False)
    assert "no examples" in done.stderr


def test_drop_counts_are_kept(project: Project) -> None:
    project.run_toy(NOTHING, "loop.train.on_empty=skip", "iterations=1")
    entry = all_runs(project.path / "runs")[0].entry("iteration-01/build")
    assert entry is not None
    assert entry.manifest is not None
    assert entry.manifest["counts"] == {"dropped: told to": 8}
    assert entry.manifest["rows"] == 0


def test_sampling_and_scoring_overlap(project: Project) -> None:
    project.run_toy("iterations=1", "sampler.delay=0.1")
    events = list(all_runs(project.path / "runs")[0].events())

    def when(kind: str, node: str) -> int:
        return next(i for i, e in enumerate(events) if e["event"] == kind and e.get("node") == node)

    assert when("stage_started", "iteration-01/score") < when("stage_finished", "iteration-01/sample")

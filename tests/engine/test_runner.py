"""The runner itself, in this process: signals at bad moments, twins, rules that end the loop."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from itercli.engine.display import PlainDisplay
from itercli.engine.runner import RunInterrupted, Runner
from itercli.engine.runs import Run, all_runs
from itercli.engine.status import Status
from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import Node, Plan, build_plan
from itercli.recipe.schema import check
from tests.conftest import Project
from tests.engine.test_run import wait_for


class Recorder(PlainDisplay):
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, bool]] = []

    def finished(self, node: Node, manifest: dict[str, Any], reused: bool) -> None:
        self.done.append((node.id, reused))


def toy_plan(project: Project, *overrides: str) -> Plan:
    composed = compose_recipe([f"recipe={project.path / 'toy.yaml'}", *overrides])
    return build_plan(check(composed.raw, base=project.path))


def toy_run(project: Project, name: str = "run") -> Run:
    path = project.path / "runs" / name
    path.mkdir(parents=True, exist_ok=True)
    return Run(path)


def test_signal_while_a_stage_is_being_started_stops_it(project: Project) -> None:
    class Killing(Recorder):
        def started(self, node: Node, status: Status) -> None:
            super().started(node, status)
            if node.name == "sample":
                os.kill(os.getpid(), signal.SIGTERM)

    runner = Runner(toy_plan(project, "sampler.delay=0.5"), toy_run(project), Killing())
    began = time.monotonic()
    with pytest.raises(RunInterrupted) as stopped:
        runner.execute()
    assert stopped.value.signum == signal.SIGTERM
    assert time.monotonic() - began < 6  # the stage alone takes eight


def test_message_larger_than_the_pipe_arrives_whole(project: Project) -> None:
    big = "x" * 300_000
    plan = toy_plan(project, "iterations=0", f"++before.tasks.source={{name: toy, note: {big}}}")
    runner = Runner(plan, toy_run(project), Recorder())
    assert runner.execute().ran == 1


def test_worker_stopped_from_outside_fails_instead_of_starting_over(project: Project) -> None:
    process = project.start("run", "recipe=toy.yaml", "iterations=1", "sampler.delay=0.1")
    wait_for(project.path / "runs", '"policy_loaded"')
    (run,) = all_runs(project.path / "runs")
    pids = {e["worker"]: e["pid"] for e in run.events() if e["event"] == "worker_started"}
    os.kill(pids["sample"], signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "iteration-01/sample stopped though nobody here asked for it" in err


def test_sampler_that_ends_early_is_an_error(project: Project) -> None:
    done = project.run_toy("sampler={name: toy, fault: short}", check=False)
    assert "iteration-01/sample failed: sample: the sampler ended after 3 of 16 completions" in done.stderr

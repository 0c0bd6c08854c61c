"""Studies run for real, with small stages: seeds, pruning, failures, signals, kills, two at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.engine.runs import Run
from itercli.report.tables import by_iteration
from tests.conftest import Project
from tests.engine.test_run import wait_for
from tests.tune.conftest import shown, tune

Capture = pytest.CaptureFixture[str]


def finished(root: Path, name: str) -> list[str]:
    """Stages that the run computed, in their order."""
    return [e["node"] for e in Run(root / "runs" / name).events() if e["event"] == "stage_finished"]


def test_seeds_are_averaged_and_the_best_is_an_ordinary_run(hill: Project, capsys: Capture) -> None:
    assert tune("trials=1", "seeds=2") == 0
    (trial,) = shown(capsys)["trials"]
    runs = [Run(hill.path / "runs" / name) for name in trial["runs"]]
    last = [by_iteration(run)["climb.height"][3] for run in runs]
    assert trial["value"] == pytest.approx(sum(last) / 2)
    assert trial["values"]["3"] == last
    assert last[0] != last[1]
    assert trial["spread"] == pytest.approx(abs(last[0] - last[1]) / 2**0.5)
    # The line that is offered finds what the trial has computed.
    line = shown(capsys)["study"]["best"]["command"].split()[1:]
    assert main(line) == 0
    assert f"{runs[0].name}: finished already" in capsys.readouterr().out


@pytest.mark.slow
def test_pruned_trials_leave_iterations_out(hill: Project, capsys: Capture) -> None:
    assert tune("trials=4", "tune.startup=1", "tune.sampler=random") == 0
    table = capsys.readouterr().out
    trials = shown(capsys)["trials"]
    pruned = [t for t in trials if t["state"] == "pruned"]
    assert pruned
    assert trials[0]["state"] == "complete"
    for trial in trials:
        (name,) = trial["runs"]
        computed = finished(hill.path, name)
        assert computed == [f"iteration-{i:02d}/climb" for i in range(1, trial["iterations"]["done"] + 1)]
        assert len(computed) < 3 if trial in pruned else len(computed) == 3
    best = max((t for t in trials if t["state"] == "complete"), key=lambda t: t["value"])
    assert f"best: trial {best['trial']}" in table
    assert all(t["params"]["loop.climb.x"] < best["params"]["loop.climb.x"] for t in pruned)


def test_a_failed_trial_does_not_end_the_study(hill: Project, capsys: Capture) -> None:
    once = f"loop.climb.dies_once={hill.path / 'died'}"
    assert tune(once, "trials=1") == 1, "no trial has a value"
    assert tune(once, "trials=2") == 0
    assert "trial 1: iteration-01/climb failed" in capsys.readouterr().out
    first, second = shown(capsys)["trials"]
    assert (first["state"], first["value"]) == ("failed", None)
    assert "killed" in first["error"]
    assert (second["state"], second["error"]) == ("complete", None)


@pytest.mark.slow
def test_stopped_and_killed_and_finished(hill: Project, capsys: Capture) -> None:
    runs = hill.path / "runs"
    line = ("tune", "recipe=hill.yaml", "loop.climb.delay=1.5", "tune.pruner=none")
    process = hill.start(*line)
    wait_for(runs, "stage_started")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Go on with:\n  iter tune recipe=hill.yaml" in err
    assert "0 of 2 trials" not in out
    before = shown(capsys)
    (trial,) = before["trials"]
    assert (trial["state"], before["study"]["resume"].split()[1]) == ("cut off", "tune")

    process = hill.start(*line)
    wait_for(runs, "stage_finished")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert shown(capsys)["trials"][0]["state"] == "cut off"

    assert tune("tune.pruner=none") == 0
    after = shown(capsys)
    assert [t["state"] for t in after["trials"]] == ["complete", "complete"]
    assert after["study"]["name"] == before["study"]["name"]
    assert after["study"]["resume"] is None
    assert after["trials"][0]["params"] == trial["params"]
    assert finished(hill.path, trial["runs"][0]).count("iteration-01/climb") == 1
    capsys.readouterr()
    assert tune("tune.pruner=none") == 0
    assert "stages" not in capsys.readouterr().out, "nothing is left to do"


@pytest.mark.slow
def test_two_processes_share_a_study(hill: Project, capsys: Capture) -> None:
    line = ("tune", "recipe=hill.yaml", "loop.climb.delay=0.3", "trials=4")
    processes = [hill.start(*line) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "trial" in out
    trials = shown(capsys)["trials"]
    assert [t["trial"] for t in trials] == [1, 2, 3, 4]
    assert {t["state"] for t in trials} == {"complete"}
    assert len({t["params"]["loop.climb.x"] for t in trials}) == 4

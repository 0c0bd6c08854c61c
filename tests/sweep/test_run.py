"""`iter run -m` with the toy recipe: shared stages, failures, signals, kills, launchers."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from itercli.cli.main import main
from itercli.engine.runs import all_runs
from itercli.sweep.record import all_sweeps
from itercli.sweep.table import sweep_json
from tests.conftest import Project
from tests.engine.test_run import alive, wait_until

TASKS = "before.tasks.source={name: toy, count: 3},{name: toy, count: 4}"
TWO = ("recipe=toy.yaml", "iterations=1", "training.lr=0.1,0.2")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def states(project: Project) -> list[str]:
    (sweep,) = all_sweeps(project.path / "runs")
    return [p["state"] for p in sweep_json(sweep)["points"]]


def events(project: Project, kind: str) -> list[dict[str, Any]]:
    return [e for run in all_runs(project.path / "runs") for e in run.events() if e["event"] == kind]


def computed(project: Project) -> Counter[str]:
    """How often each stage was computed, by any run."""
    return Counter(e["key"] for e in events(project, "stage_finished"))


def test_a_sweep_runs_and_is_found_again(project: Project) -> None:
    line = ("run", "-m", "recipe=toy.yaml", "iterations=0", TASKS, "headline=null")
    out = project.iter(*line).stdout
    assert "[2/2]" in out
    assert states(project) == ["finished", "finished"]
    (sweep,) = all_sweeps(project.path / "runs")
    assert sweep.line.startswith("iter run -m recipe=toy.yaml iterations=0")
    assert [p.changed for p in sweep.points] == [
        {"before.tasks.source": "{name:toy,count:3}"},
        {"before.tasks.source": "{name:toy,count:4}"},
    ]
    assert "{name:toy,count:4}" in project.iter("sweeps", sweep.name).stdout
    again = project.iter(*line).stdout
    assert "2 done already" in again
    assert "[1/2]" not in again
    # Nothing lies about but what is ours.
    assert {p.name for p in project.path.iterdir()} == {"model", "toy.yaml", "runs"}
    assert len(list(sweep.path.glob("attempt-*"))) == 1


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.path)
    return project.path


def test_nothing_is_computed_when_a_point_is_wrong(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "recipe=toy.yaml", "training.lr=0.1,0.2", "seed=1,x"]) == 2
    assert "1 problem" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_name_is_for_one_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", *TWO, "--name", "x"]) == 2
    assert "--name" in capsys.readouterr().err


def test_listing_without_sweeps(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweeps"]) == 0
    assert "iter run -m" in capsys.readouterr().err
    assert main(["sweeps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "itercli.sweeps/1", "sweeps": []}
    assert main(["sweeps", "x"]) == 1
    assert not (here / "runs").exists()


@pytest.mark.slow
def test_a_failed_point_stops_no_other(project: Project) -> None:
    """Only a draw of three completions a task gets as far as the fault."""
    line = ["run", "-m", "recipe=toy.yaml", "iterations=1", "loop.sample.n=3,2", "sampler.at=20"]
    done = project.iter(*line, "sampler.fault=raise", check=False)
    assert done.returncode == 1
    assert states(project) == ["failed", "finished"]
    assert "toy trouble" in done.stdout
    assert "go on with:\n  iter run -m" in done.stderr
    project.iter(*line)  # the fault is no part of what a run is
    assert states(project) == ["finished", "finished"]


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again(project: Project) -> None:
    line = (
        "run",
        "-m",
        "recipe=toy.yaml",
        "iterations=1",
        "training.lr=0.1,0.2,0.3,0.4",
        "sampler.delay=0.05",
    )
    sweep = project.start(*line)
    wait_until(lambda: len(all_runs(project.path / "runs")) == 2)
    wait_until(lambda: any(e["node"].endswith("train") for e in _of_newest(project)))
    sweep.kill()
    sweep.communicate()
    pids = [e["pid"] for kind in ("run_started", "worker_started") for e in events(project, kind)]
    wait_until(lambda: not any(map(alive, pids)))  # nobody is left that computes or holds a lock
    assert states(project) == ["finished", "died", "waiting", "waiting"]
    project.iter(*line)
    assert states(project) == ["finished"] * 4
    # Of 32 stages: tasks, samples, scores and examples once for all, the other four for each.
    assert set(computed(project).values()) == {1}
    assert len(computed(project)) == 4 + 4 * 4


def _of_newest(project: Project) -> list[dict[str, Any]]:
    return [e for e in all_runs(project.path / "runs")[0].events() if e["event"] == "stage_started"]


@pytest.mark.slow
def test_points_at_the_same_time_share_stages_also_when_one_dies(project: Project) -> None:
    sweep = project.start("run", "-m", *TWO, "sampler.delay=0.3", *JOBLIB)
    journal = "runs/.store/trajectories/*/journal.jsonl"
    wait_until(lambda: bool(waiting(project)) and any(p.stat().st_size for p in project.path.glob(journal)))
    holder = int(waiting(project)[0].removeprefix("process "))
    os.kill(holder, signal.SIGKILL)
    out, err = sweep.communicate()
    assert sweep.returncode == 1, err
    assert sorted(states(project)) == ["failed", "finished"]
    assert "was killed by SIGKILL" in " ".join(out.split())
    (sampled,) = [p for p in _manifests(project, "trajectories") if p["key"] in _shared_samples(project)]
    assert sampled["work"]["resumed_rows"] > 0  # the one that waited went on where the dead one was
    project.iter("run", "-m", *TWO, *JOBLIB)
    assert states(project) == ["finished", "finished"]
    assert set(computed(project).values()) == {1}


def waiting(project: Project) -> list[str]:
    return [e["holder"] for e in events(project, "waiting") if e["node"] == "iteration-01/sample"]


def _manifests(project: Project, kind: str) -> list[dict[str, Any]]:
    return [json.loads(p.read_bytes()) for p in project.path.glob(f"runs/.store/{kind}/*/manifest.json")]


def _shared_samples(project: Project) -> set[str]:
    return {run.info["nodes"]["iteration-01/sample"]["key"] for run in all_runs(project.path / "runs")}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), JOBLIB], ids=["basic", "joblib"])
def test_a_signal_stops_the_sweep_in_order(project: Project, launcher: tuple[str, ...]) -> None:
    line = ("run", "-m", "recipe=toy.yaml", "iterations=1", "training.lr=0.1,0.2,0.3", *launcher)
    sweep = project.start(*line, "sampler.delay=0.5")
    journal = "runs/.store/trajectories/*/journal.jsonl"
    wait_until(lambda: any(p.stat().st_size for p in project.path.glob(journal)))
    os.killpg(sweep.pid, signal.SIGINT)  # as the terminal does
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    found = Counter(states(project))
    assert found["interrupted"] >= 1
    assert found["interrupted"] + found["waiting"] == 3
    assert "everything finished is kept; go on with:\n  iter run" in err
    assert "Traceback" not in out + err


@pytest.mark.slow
def test_submitit_runs_points_as_jobs(project: Project) -> None:
    folder = project.path / "own" / "recipe"
    folder.mkdir(parents=True)
    (project.path / "toy.yaml").rename(folder / "mine.yaml")
    line = ("run", "-m", "--recipes", "own", "recipe=mine", "iterations=1", "training.lr=0.1,0.2")
    project.iter(*line, "hydra/launcher=submitit_local")
    assert states(project) == ["finished", "finished"]
    assert set(computed(project).values()) == {1}
    assert len(computed(project)) == 4 + 2 * 4

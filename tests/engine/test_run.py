"""The engine end to end, with the toy recipe: resume, reuse, share, stop."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.runs import Run, all_runs
from itercli.engine.signals import AGAIN_SECONDS
from tests.conftest import Project


def only_run(project: Project) -> Run:
    (run,) = all_runs(project.path / "runs")
    return run


def artifacts(project: Project) -> dict[str, str]:
    """Key -> content digest of every finished artifact."""
    found = {}
    for path in project.path.glob("runs/.store/*/*/manifest.json"):
        manifest = json.loads(path.read_text())
        found[manifest["key"]] = manifest["digest"]
    return found


def plan(project: Project, *overrides: str) -> dict[str, dict[str, Any]]:
    out = project.iter("plan", "recipe=toy.yaml", *overrides, "--json").stdout
    return {s["node"]: s for s in json.loads(out)["stages"]}


def ran(run: Run) -> list[str]:
    return [e["node"] for e in run.events() if e["event"] == "stage_finished"]


def wait_for(run_dir: Path, text: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in run_dir.glob("*/events.jsonl"):
            if text in path.read_text():
                return
        time.sleep(0.02)
    raise AssertionError(f"{text!r} did not happen")


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_first_run_makes_everything_and_links_it(project: Project) -> None:
    done = project.run_toy()
    run = only_run(project)
    assert run.info["state"] == "finished"
    assert "pass@1" in done.stdout
    assert len(ran(run)) == 15
    for node in run.info["nodes"]:
        assert (run.path / node / "manifest.json").is_file()
    assert [m["iteration"] for m in run.metrics() if m["stage"] == "evaluate"] == [1, 2]


def test_same_command_again_is_a_no_op(project: Project) -> None:
    project.run_toy()
    run = only_run(project)
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*") if p.is_file() and p.name != ".lock"}
    done = project.run_toy()
    assert "nothing to do" in done.stdout
    assert {
        p: p.stat().st_mtime_ns for p in run.path.rglob("*") if p.is_file() and p.name != ".lock"
    } == before


def test_changed_option_reruns_only_what_depends_on_it(project: Project) -> None:
    project.run_toy()
    first = artifacts(project)
    status = plan(project, "training.lr=0.2")
    assert status["iteration-01/sample"]["action"] == "reuse"
    assert status["iteration-01/build"]["action"] == "reuse"
    assert status["iteration-01/train"]["action"] == "run"
    assert "training.lr changed: 0.1 -> 0.2" in status["iteration-01/train"]["reason"]
    assert status["iteration-02/sample"]["action"] == "run"
    project.run_toy("training.lr=0.2")
    runs = all_runs(project.path / "runs")
    assert len(runs) == 2
    assert not {"before/tasks", "iteration-01/sample", "iteration-01/score"} & set(ran(runs[0]))
    assert first.items() <= artifacts(project).items()


def test_options_that_only_change_how_are_not_in_the_key(project: Project) -> None:
    project.run_toy()
    assert {s["action"] for s in plan(project, "loop.score.workers=3", "sampler.delay=0.001").values()} == {
        "reuse"
    }
    assert {s["action"] for s in plan(project, "training.threads=2").values()} == {"reuse"}


def test_other_seed_draws_something_else(project: Project) -> None:
    project.run_toy("iterations=1")
    status = plan(project, "iterations=1", "seed=1")
    assert status["before/tasks"]["action"] == "reuse"
    assert status["iteration-01/sample"]["action"] == "run"


def test_longer_loop_continues_from_a_shorter_one(project: Project) -> None:
    project.run_toy("iterations=1")
    status = plan(project, "iterations=2")
    assert {s["action"] for n, s in status.items() if not n.startswith("iteration-02")} == {"reuse"}


def test_flipped_bit_is_noticed_set_aside_and_done_again(project: Project) -> None:
    project.run_toy()
    before = artifacts(project)
    run = only_run(project)
    path = (run.path / "iteration-01" / "score" / "rows.parquet").resolve()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert (
        plan(project)["iteration-01/score"]["reason"]
        == "artifact is damaged: rows.parquet does not match its checksum"
    )
    done = project.run_toy()
    assert "set aside as" in done.stdout
    assert artifacts(project) == before
    assert list(path.parent.parent.glob("*.damaged-*/rows.parquet"))
    assert ran(run).count("iteration-01/score") == 2
    assert ran(run).count("iteration-01/train") == 1  # same content came out, so nothing else is done again


def test_missing_manifest_means_not_finished(project: Project) -> None:
    project.run_toy()
    run = only_run(project)
    (run.path / "iteration-02" / "evaluate" / "manifest.json").unlink()
    assert plan(project)["iteration-02/evaluate"]["action"] == "run"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("stage", ["sample", "score", "train"])
def test_signal_stops_in_order_and_the_same_command_goes_on(
    project: Project, tmp_path_factory: pytest.TempPathFactory, signum: int, code: int, stage: str
) -> None:
    slow = {
        "sample": "sampler.delay=0.2",
        "score": "loop.score.scorer={name: toy, delay: 0.5}",
        "train": "loop.train.method={name: toy, delay: 0.4}",
    }[stage]
    args = ("run", "recipe=toy.yaml", "iterations=1", slow)
    process = project.start(*args)
    begun = {
        "sample": "trajectories/*/journal.jsonl",
        "score": "scores/*/journal.jsonl",
        "train": "model/*/checkpoints/step-*",
    }[stage]
    wait_until(lambda: any(p.is_dir() or p.stat().st_size for p in project.path.glob(f"runs/.store/{begun}")))
    os.killpg(process.pid, signum)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert "Go on with" in err
    run = only_run(project)
    assert run.info["state"] == "interrupted"
    status = plan(project, *args[2:])
    assert status[f"iteration-01/{stage}"]["action"] == "resume"
    project.iter(*args)
    assert max(map(ran(run).count, ran(run))) == 1
    other = project.path / "undisturbed"
    project.iter(*args, "--runs", str(other))
    undisturbed = {
        m["key"]: m["digest"]
        for p in other.glob(".store/*/*/manifest.json")
        if (m := json.loads(p.read_text()))
    }
    assert artifacts(project) == undisturbed


def test_second_signal_ends_at_once(project: Project) -> None:
    process = project.start("run", "recipe=toy.yaml", "sampler={name: toy, fault: hang}")
    wait_for(project.path / "runs", '"policy_loaded"')
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # as `timeout` signals a process and its group
    time.sleep(AGAIN_SECONDS + 0.2)
    assert process.poll() is None  # it waits for the row in hand
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert "ended at once by a second signal (SIGINT)" in process.stderr.read()


def test_sigkill_loses_no_finished_row_and_leaves_no_worker(project: Project) -> None:
    process = project.start("run", "recipe=toy.yaml", "iterations=1", "sampler.delay=0.1")
    wait_for(project.path / "runs", '"policy_loaded"')
    time.sleep(0.6)
    process.kill()  # only the engine: the workers must notice by themselves
    process.wait()
    (journal,) = project.path.glob("runs/.store/trajectories/*/journal.jsonl")
    rows = journal.read_bytes().count(b"\n")
    assert rows >= 3
    time.sleep(0.5)
    assert journal.read_bytes().count(b"\n") == rows
    run = only_run(project)
    pids = [e["pid"] for e in run.events() if e["event"] == "worker_started"]
    assert not [p for p in pids if alive(p)]
    project.run_toy("iterations=1", "sampler.delay=0.1")
    opened = [
        e["rows"]
        for e in run.events()
        if e["event"] == "journal_opened" and e["node"] == "iteration-01/sample"
    ]
    assert opened == [0, rows]


def test_resume_continues_the_newest_run_without_arguments(project: Project) -> None:
    process = project.start("run", "recipe=toy.yaml", "iterations=1", "sampler.delay=0.1")
    wait_for(project.path / "runs", '"policy_loaded"')
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate()
    assert "pass@1" in project.iter("resume").stdout
    assert only_run(project).info["state"] == "finished"
    assert "no run 'nope'" in project.iter("resume", "nope", check=False).stderr


def test_early_stop_ends_the_loop(project: Project) -> None:
    project.run_toy("iterations=6", "++stop={stage: evaluate, metric: pass@1, patience: 1}")
    run = only_run(project)
    last = max(n["iteration"] for n in run.info["nodes"].values())
    assert last < 6
    assert "has not improved" in run.info["stopped_early"]
    again = project.run_toy("iterations=6", "++stop={stage: evaluate, metric: pass@1, patience: 1}")
    assert "nothing to do" in again.stdout

"""Runs with trackers that misbehave, and one that is killed: nothing of it reaches the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.runs import Run
from tests.conftest import Project

WAIT = 2


def content(run: Run) -> dict[str, Any]:
    """Node -> content digest of its artifact."""
    return {i: e.manifest and e.manifest["digest"] for i in run.info["nodes"] if (e := run.entry(i))}


def test_trackers_that_raise_hang_and_die(made: Project) -> None:
    trackers = ", ".join(f"{name}: {{wait: {WAIT}}}" for name in ("raises", "hangs", "dies"))
    begun = time.monotonic()
    # In a folder of its own, so that nothing is reused.
    done = made.run_toy(
        "--runs", "own", "--name", "tracked", f"tracker={{{trackers}, record: {{samples: 2, model: best}}}}"
    )
    took = time.monotonic() - begun
    run, plain = Run(made.path / "own" / "tracked"), Run(made.path / "runs" / "plain")
    assert run.info["state"] == "finished"
    assert content(run) == content(plain)

    events = list(run.events())
    failed = Counter(e["tracker"] for e in events if e["event"] == "tracker_failed")
    assert failed == {"raises": 1, "hangs": 1, "dies": 1}
    for name in failed:
        assert done.stderr.count(f"tracker {name}: ") == 1
    assert done.stderr.count("iter sync tracked --runs ") == 3
    assert "\x1b[31m" not in done.stdout + done.stderr
    ended = next(e["time"] for e in events if e["event"] == "run_ended")
    after = (datetime.now(UTC) - datetime.fromisoformat(ended)).total_seconds()
    assert min(after, took) < WAIT + 15  # starting and ending processes takes its time on a busy machine

    lines = [json.loads(line) for line in (run.path / "tracking" / "record.jsonl").read_text().splitlines()]
    iterations = [x["at"] for x in lines if "evaluate/pass@1" in x.get("values", {})]
    assert iterations == [1, 2]
    assert [x["at"] for x in lines if x.get("axis") == "global_step"] == list(range(1, 9))
    tables = {x["table"]["iteration"]: x["table"] for x in lines if "table" in x}
    assert [len(tables[i]["rows"]) for i in (1, 2)] == [2, 2]
    assert tables[2]["stage"] == "evaluate.score"
    (model,) = (x["model"] for x in lines if "model" in x)
    assert (Path(model["path"]) / "config.json").is_file()
    assert lines[-1]["closed"] == "finished"
    assert lines[-1]["headline_best"] == lines[-1]["headline_last"]


def test_one_note_and_no_waiting_for_what_is_gone(made: Project) -> None:
    done = made.run_toy("--name", "slow", "loop.sample.n=3", "sampler.delay=0.1", "tracker={dies: {}}")
    notes = [line for line in done.stdout.splitlines() if "tracker dies" in line]
    assert len(notes) == 1
    assert "was ended by SIGKILL; the run goes on without it" in notes[0]


def records(folder: Path) -> list[dict[str, Any]]:
    """What an offline folder of wandb holds, read by wandb."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.slow
def test_wandb_offline_without_a_network_killed_and_resumed(
    made: Project, no_network: list[str], isolated: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("wandb")
    line = ["run", "recipe=toy.yaml", "--name", "killed", "seed=1", "tracker=wandb",
            "loop.train.method={name: toy, delay: 0.5}",
            "tracker.wandb.samples=1", "tracker.wandb.wait=60"]  # fmt: skip
    run = Run(made.path / "runs" / "killed")
    command = [*no_network, sys.executable, "-m", "itercli", *line]
    process = subprocess.Popen(
        command, cwd=made.path, env=made.env, start_new_session=True, stdout=subprocess.DEVNULL
    )
    position = run.path / "tracking" / "wandb.json"
    deadline = time.monotonic() + 120
    while not position.is_file() or "steps iteration-02/train" not in position.read_text():
        assert time.monotonic() < deadline, "it did not come to the second training"
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    follower = next(e["pid"] for e in run.events() if e["event"] == "tracker_started")
    while Path(f"/proc/{follower}").exists():  # it says that the run died, and ends
        assert time.monotonic() < deadline
        time.sleep(0.1)
    isolated(*line)

    folders = sorted((run.path / "tracking" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    parts = [records(folder) for folder in folders]
    begun = [next(r["run"] for r in part if r["type"] == "run") for part in parts]
    assert begun[0]["run_id"] == begun[1]["run_id"]
    assert begun[1]["display_name"] == "killed"
    assert begun[1]["tags"] == ["toy"]
    assert begun[1]["config"]["update"]["iterations"] == 2
    both = [record for part in parts for record in part]
    metrics = [r["metric"] for r in both if r["type"] == "metric"]
    axes = {metric["name"]: metric.get("step_metric") for metric in metrics}
    assert axes["evaluate/pass@1"] == "iteration"
    assert axes["training/train.loss"] == "global_step"
    rows = [r["history"]["item"] for r in both if r["type"] == "history"]
    steps = [row["_step"] for row in rows]
    assert steps == list(range(len(rows)))  # goes on where it was: nothing is below what was sent
    losses = [(row["global_step"], row["training/train.loss"]) for row in rows if "global_step" in row]
    assert [step for step, _ in losses] == list(range(1, 9))
    assert [loss for _, loss in losses] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4] * 2)
    measured = {
        m["iteration"]: m["metrics"]["pass@1"]["value"] for m in run.metrics() if m["stage"] == "evaluate"
    }
    assert {r["iteration"]: r["evaluate/pass@1"] for r in rows if "evaluate/pass@1" in r} == measured
    assert any(name.startswith("samples/evaluate.score") for row in rows for name in row)
    said = [r["summary"]["update"].get("state") for p in parts for r in p if r["type"] == "summary"]
    assert [state for state in said if state] == ["died", "finished"]
    assert [next(r["exit"].get("exit_code", 0) for r in part if r["type"] == "exit") for part in parts] == [
        1,
        0,
    ]

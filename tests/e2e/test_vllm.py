"""Whole loops sampled by vLLM: the policy is switched in the engine, and a kill is survived."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
import pytest

from tests.conftest import Project
from tests.e2e.conftest import (
    TINY,
    VLLM,
    alive,
    descendants,
    journals,
    needs_vllm,
    the_run,
    trajectories,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.vllm, needs_vllm]


def test_cut_off_twice_while_sampling_then_finished_in_one_engine(empty: Project) -> None:
    args = ("run", *TINY, *VLLM, "data.eval.limit=96", "iterations=2")
    slowly = "sampler.batch_size=1"
    kept: list[dict] = []
    for signum, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = empty.start(*args, slowly)
        before = len(kept)
        wait_until(lambda n=before: any(len(r) >= n + 2 for r in journals(empty).values()), 240, "sampling")
        children = descendants(process.pid)
        (engine,) = [p for p in alive(children) if p.name() == "VLLM::EngineCore"]
        engine.suspend()  # it draws hundreds of rows a second: hold it until the signal has arrived
        if signum == signal.SIGINT:
            os.killpg(process.pid, signum)  # as a terminal does it
        else:
            process.kill()  # workers and vLLM's processes must notice by themselves
        time.sleep(1)
        with contextlib.suppress(psutil.NoSuchProcess):
            engine.resume()
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        wait_until(lambda left=children: not alive(left), 10, f"the end of {children}")
        (rows,) = journals(empty).values()
        assert rows[:before] == kept
        kept = rows
    assert len(kept) < 96
    empty.iter(*args, timeout=600)

    rows = trajectories(empty)
    first = {(r["prompt_id"], r["index"]): r for r in rows["before/evaluate.sample"]}
    assert all(first[r["prompt_id"], r["index"]] == r for r in kept)
    assert {n: len(r) for n, r in rows.items() if n.endswith("/sample")} == {
        "iteration-01/sample": 16,
        "iteration-02/sample": 16,
    }
    ends = [r["finish"] for found in rows.values() for r in found]
    assert set(ends) <= {"stop", "length"}
    assert "stop" in ends

    log = list(the_run(empty).events())
    last = max(n for n, e in enumerate(log) if e["event"] == "run_started")
    loads = [e for n, e in enumerate(log) if n > last and e["event"] == "policy_loaded"]
    switches = [(e["policy"], e["switch"]) for e in loads if e["switch"] != "none"]
    assert switches == [
        ("policy@0", "engine started"),
        ("policy@1", "weights reloaded"),
        ("policy@2", "weights reloaded"),
    ]
    assert all(e["probe"]["changed_by"] > 0 for e in loads if e["switch"] == "weights reloaded")

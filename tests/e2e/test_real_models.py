"""One iteration of ITERTL with a language model of 135M parameters and VerilogEval."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from itercli.models.known import find_known
from tests.conftest import Project
from tests.e2e.conftest import VLLM, events, needs_vllm, the_run, trajectories

pytestmark = pytest.mark.slow

# One thread, few slots: a decode step costs the same for one completion as for all slots.
SAMPLERS = {
    "transformers": ("sampler=transformers", "sampler.batch_size=8", "sampler.threads=1"),
    "vllm": (*VLLM, "sampler.max_model_len=1024"),
}
SMALL = (
    "recipe=itertl",
    "model=smollm2-135m",
    "data=verilogeval",
    "data.limit=2",
    "data.train.limit=2",
    "iterations=1",
    "trainer=lora",
    "training.max_length=512",
    "loop.sample.n=2",
    "loop.sample.max_new_tokens=24",
    "loop.evaluate.n=1",
    "loop.evaluate.max_new_tokens=24",
    "loop.evaluate.metrics=[pass@1]",
    "before.evaluate_unseen=null",
    "loop.evaluate_unseen=null",
)


@pytest.mark.parametrize(
    "sampler", ["transformers", pytest.param("vllm", marks=[pytest.mark.vllm, needs_vllm])]
)
def test_one_iteration(sampler: str, empty: Project, shared_data: Callable[[str], Path]) -> None:
    model = find_known("smollm2-135m")
    if model is None or model.state != "pulled":
        pytest.skip("smollm2-135m is not here: iter models pull smollm2-135m")
    data = shared_data("verilogeval")
    done = empty.iter("run", *SMALL, f"data.path={data}", *SAMPLERS[sampler], timeout=900)
    assert "evaluate" in done.stdout
    assert the_run(empty).info["state"] == "finished"

    loads = {e["node"]: e for e in events(empty, "policy_loaded")}
    assert loads["before/evaluate.sample"]["policy"] == "policy@0"
    switch = loads["iteration-01/evaluate.sample"]
    assert switch["policy"] == "policy@1"
    assert switch["switch"] == {"transformers": "kept", "vllm": "weights reloaded"}[sampler]
    assert switch["adapter"] == "merged"
    assert switch["probe"]["changed_by"] > 0
    assert [e["worker"] for e in events(empty, "worker_started")].count("sample") == 1

    rows = trajectories(empty)
    assert {n: len(r) for n, r in rows.items()} == {
        "before/ceiling.references": 2,
        "before/evaluate.sample": 2,
        "iteration-01/sample": 4,
        "iteration-01/evaluate.sample": 2,
    }
    assert {r["finish"] for found in rows.values() for r in found} <= {"stop", "length"}
    assert "policy@1  trained from policy@0" in empty.iter("show").stdout
    assert "policy@1" in empty.iter("samples", "--iteration", "1").stdout

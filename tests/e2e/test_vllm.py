"""Whole loops sampled by vLLM: the policy is switched in the engine, and a kill is survived."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import Project
from tests.e2e.conftest import (
    TINY,
    TINY_PAIRS,
    VLLM,
    alive,
    descendants,
    events,
    journals,
    needs_vllm,
    the_run,
    trajectories,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.vllm, needs_vllm]


def test_cut_off_twice_while_sampling_then_finished_in_one_engine(empty: Project) -> None:
    # One by one these take minutes, so that the stage is cut off however late a signal arrives.
    total = 96 * 20
    args = (
        "run", *TINY, *VLLM, "data.eval.limit=96", "iterations=2", "before.evaluate_unseen=null",
        "before.evaluate={uses: evaluate, role: policy, prompts: ${data.eval}, scorer: functional, n: 20, "
        "max_new_tokens: 96}",
    )  # fmt: skip
    slowly, fast = "sampler.batch_size=1", "sampler.batch_size=64"
    kept: list[dict] = []
    for signum, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = empty.start(*args, slowly)
        before = len(kept)
        wait_until(lambda n=before: any(len(r) >= n + 2 for r in journals(empty).values()), 240, "sampling")
        children = descendants(process.pid)
        if signum == signal.SIGINT:
            os.killpg(process.pid, signum)  # as a terminal does it
        else:
            process.kill()  # workers and vLLM's processes must notice by themselves
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        wait_until(lambda left=children: not alive(left), 10, f"the end of {children}")
        (rows,) = journals(empty).values()
        assert rows[:before] == kept
        kept = rows
    assert len(kept) < total
    empty.iter(*args, fast, timeout=600)

    rows = trajectories(empty)
    first = {(r["prompt_id"], r["index"]): r for r in rows["before/evaluate.sample"]}
    assert all(first[r["prompt_id"], r["index"]] == r for r in kept)
    assert len(first) == total
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


def test_both_roles_of_self_lengthen_answer_from_one_engine(empty: Project) -> None:
    accept = "{closing: '', meta_words: [], ngram: 0}"  # the tiny model answers with Verilog
    again = f"uses: self_lengthen.extend, role: generator, of: extended, accept: {accept}"
    empty.iter(
        "run", "recipe=self_lengthen", "model=tiny-rtl", *VLLM, "sampler.adapter=lora", "iterations=2",
        "before.evaluate=null", "loop.evaluate=null", "headline=null",
        "loop.propose.n=12", "loop.propose.suits=0", "loop.propose.words=[0, 500]",
        "loop.propose.max_new_tokens=48",
        f"loop.respond.accept={accept}", "loop.respond.finished=false", "loop.respond.max_new_tokens=24",
        f"loop.extend.accept={accept}", "loop.extend.finished=false", "loop.extend.max_new_tokens=48",
        "loop.extend.growth=1", "loop.extend.micro_steps=1", "loop.extend.tries=4",
        # The generator answers once more, after the extender; trained once, it is the same as before.
        f"loop.again={{{again}, max_new_tokens: 48, finished: false, growth: 1, micro_steps: 1, tries: 4}}",
        "loop.train_generator.once=true", "loop.train_extender.once=true",
        "training.max_steps=3", "training.threads=1",
        timeout=600,
    )  # fmt: skip

    loads = {e["node"]: e for e in events(empty, "policy_loaded")}
    found = {node: (e["policy"], e["switch"]) for node, e in loads.items()}
    assert found == {
        "iteration-01/propose": ("base@0", "engine started"),
        "iteration-01/respond": ("generator@0", "none"),
        "iteration-01/extend": ("extender@0", "none"),
        "iteration-02/propose": ("base@0", "none"),
        "iteration-01/again": ("generator@1", "adapter"),
        "iteration-02/respond": ("generator@1", "none"),
        "iteration-02/extend": ("extender@1", "adapter"),
        "iteration-02/again": ("generator@1", "adapter kept"),
    }
    extender, generator = loads["iteration-02/extend"]["probe"], loads["iteration-02/again"]["probe"]
    assert extender["changed_by"] > 0
    assert extender["apart"]["the base of extender@1"] > 0
    assert generator["changed_by"] == extender["changed_by"]  # back to the other adapter
    assert generator["drift"] == 0
    rows = trajectories(empty)
    assert {
        node: {row["policy"] for row in rows[node]} for node in found if not node.endswith("/propose")
    } == {node: {policy} for node, (policy, _) in found.items() if not node.endswith("/propose")}


def test_policy_that_online_dpo_trained_answers(empty: Project) -> None:
    empty.iter(
        "run", "recipe=online_dpo", *TINY_PAIRS, *VLLM, "iterations=1", "training.lr=1e-3", timeout=600
    )

    loads = {e["node"]: e for e in events(empty, "policy_loaded")}
    assert {node: e["policy"] for node, e in loads.items()} == {
        "before/evaluate.sample": "policy@0",
        "iteration-01/sample": "policy@0",
        "iteration-01/evaluate.sample": "policy@1",
    }
    new = loads["iteration-01/evaluate.sample"]
    assert new["switch"] == "weights reloaded"
    assert new["probe"]["changed_by"] > 0
    loads["before/draft"] = {"policy": "answers"}  # they came with the prompts
    for node, rows in trajectories(empty).items():
        assert {row["policy"] for row in rows} == {loads[node]["policy"]}

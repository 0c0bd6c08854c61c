"""Options of samplers: light to import, honest about what is in the key, auto says why."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from itercli.engine import machine
from itercli.sampling import specs
from itercli.sampling.specs import AutoSpec, OpenAISpec, TransformersSpec, VllmSpec


def test_importing_specs_loads_nothing_heavy():
    code = (
        "import sys, itercli.sampling.specs as s; s.AutoSpec().reason; "
        "print([m for m in ('torch', 'transformers', 'vllm', 'httpx', 'peft') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_only_result_changing_options_are_in_the_key():
    base = {"name": "transformers", "version": 1, "dtype": "auto", "adapter": "auto"}
    assert TransformersSpec(batch_size=3, threads=2, device="cpu").key_params() == base
    assert VllmSpec(gpu_memory_utilization=0.5).key_params() == VllmSpec().key_params()
    one = OpenAISpec(model="a", base_url="http://x/v1", concurrency=1)
    assert one.key_params() == OpenAISpec(model="a").key_params() != OpenAISpec(model="b").key_params()


@pytest.mark.parametrize(
    ("cuda", "vllm", "name", "words"),
    [
        (None, False, "transformers", "no CUDA GPU"),
        (None, True, "transformers", "asked for by name only"),
        ("/dev/nvidia0", False, "transformers", "vLLM is not installed"),
        ("/dev/nvidia0", True, "vllm", "/dev/nvidia0"),
    ],
)
def test_auto_chooses_and_says_why(cuda, vllm, name, words, monkeypatch):
    monkeypatch.setattr(specs, "cuda_device", lambda: cuda)
    monkeypatch.setattr(specs, "importable", lambda module: vllm)
    auto = AutoSpec(batch_size=7, dtype="float32")
    chosen = auto.resolve()
    assert (chosen.NAME, chosen.batch_size, chosen.dtype) == (name, 7, "float32")
    assert auto.reason.startswith(f"{name}: ")
    assert words in auto.reason


@pytest.mark.parametrize(
    ("dtype", "cuda", "bfloat16", "transformers", "vllm"),
    [
        ("fast", None, True, "bfloat16", "bfloat16"),
        ("fast", None, False, "float32", "float32"),
        ("fast", "/dev/nvidia0", False, "bfloat16", "bfloat16"),
        ("auto", None, True, "auto", "bfloat16"),
        ("auto", None, False, "auto", "float32"),
        ("auto", "/dev/nvidia0", False, "auto", "auto"),
        ("float16", None, False, "float16", "float16"),
    ],
)
def test_a_dtype_that_the_machine_decides_is_decided_before_the_key_is_made(
    dtype, cuda, bfloat16, transformers, vllm, monkeypatch
):
    monkeypatch.setattr(specs, "cuda_device", lambda: cuda)
    monkeypatch.setattr(machine, "cpu_has_bfloat16", lambda: bfloat16)
    assert TransformersSpec(dtype=dtype).resolve().key_params()["dtype"] == transformers
    assert VllmSpec(dtype=dtype).resolve().key_params()["dtype"] == vllm
    if dtype == "fast" and not cuda:
        auto = AutoSpec(dtype=dtype)
        assert auto.resolve().key_params() == TransformersSpec(dtype=transformers).key_params()
        assert transformers in auto.reason


def test_the_cpu_alone_decides_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(specs, "cuda_device", lambda: "/dev/nvidia0")
    monkeypatch.setattr(machine, "cpu_has_bfloat16", lambda: False)
    assert TransformersSpec(dtype="fast", device="cpu").resolve().dtype == "float32"


def test_wrong_options_are_refused():
    with pytest.raises(ValidationError, match="batch_size"):
        TransformersSpec(batch_size=0)
    with pytest.raises(ValidationError, match="extra"):
        VllmSpec(max_num_seqs=3)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_not_there(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    specs.cuda_device.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(specs.Path, "exists", lambda self: True)
    assert specs.cuda_device() is None
    specs.cuda_device.cache_clear()

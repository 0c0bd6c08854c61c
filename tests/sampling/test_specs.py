"""Options of samplers: light to import, honest about what is in the key, auto says why."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

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

"""Options of samplers: light to import, honest about what is in the key, auto says why."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from itercli import resources
from itercli.resources import Resources
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
    base = {"name": "transformers", "version": 2, "dtype": "auto", "adapter": "auto"}
    assert TransformersSpec(batch_size=3, threads=2, device="cpu").key_params() == base
    assert VllmSpec(gpu_memory_utilization=0.5).key_params() == VllmSpec().key_params()
    one = OpenAISpec(model="a", base_url="http://x/v1", concurrency=1)
    assert one.key_params() == OpenAISpec(model="a").key_params() != OpenAISpec(model="b").key_params()


GPU = Resources(cuda="/dev/nvidia0", vllm=True, gpu_bfloat16=True)
FAST = Resources(cpu_bfloat16=True)


@pytest.mark.parametrize(
    ("machine", "name", "words"),
    [
        (Resources(), "transformers", "no CUDA GPU"),
        (Resources(vllm=True), "transformers", "asked for by name only"),
        (Resources(cuda="/dev/nvidia0"), "transformers", "vLLM is not installed"),
        (GPU, "vllm", "/dev/nvidia0"),
    ],
)
def test_auto_chooses_and_says_why(machine, name, words, monkeypatch):
    monkeypatch.setattr(specs, "this_machine", lambda: machine)
    auto = AutoSpec(batch_size=7, dtype="float32")
    chosen = auto.resolved(machine)
    assert (chosen.NAME, chosen.batch_size, chosen.dtype) == (name, 7, "float32")
    assert auto.reason.startswith(f"{name}: ")
    assert words in auto.reason


@pytest.mark.parametrize(
    ("spec", "machine", "same"),
    [
        (AutoSpec(), Resources(), TransformersSpec(dtype="float32", adapter="merge")),
        (AutoSpec(), GPU, VllmSpec(dtype="bfloat16")),
        (
            AutoSpec(),
            Resources(cuda="nvidia-smi"),
            TransformersSpec(dtype="bfloat16", adapter="attach"),
        ),
        (TransformersSpec(), GPU, TransformersSpec(dtype="bfloat16", adapter="attach")),
        (TransformersSpec(device="cpu"), GPU, TransformersSpec(dtype="float32", adapter="merge")),
        (
            TransformersSpec(dtype="bfloat16"),
            Resources(),
            TransformersSpec(dtype="bfloat16", adapter="attach"),
        ),
        (TransformersSpec(dtype="fast"), Resources(), TransformersSpec(dtype="float32", adapter="merge")),
        (AutoSpec(dtype="fast"), FAST, TransformersSpec(dtype="bfloat16", adapter="attach")),
        (AutoSpec(), FAST, TransformersSpec(dtype="float32", adapter="merge")),
        (
            TransformersSpec(dtype="fast", device="cpu"),
            Resources(cuda="nvidia-smi", gpu_bfloat16=True),
            TransformersSpec(dtype="float32", adapter="merge"),
        ),
        (VllmSpec(), Resources(cuda="nvidia-smi", vllm=True), VllmSpec(dtype="float16")),
        (VllmSpec(), Resources(vllm=True), VllmSpec(dtype="float32")),
        (VllmSpec(dtype="fast"), FAST, VllmSpec(dtype="bfloat16")),
        (VllmSpec(dtype="float16"), FAST, VllmSpec(dtype="float16")),
    ],
)
def test_a_key_has_what_auto_stands_for(spec, machine, same):
    settled = spec.resolved(machine)
    assert settled.key_params() == same.key_params()
    assert "auto" not in settled.key_params().values()
    assert settled.resolved(machine) == settled


def test_wrong_options_are_refused():
    with pytest.raises(ValidationError, match="batch_size"):
        TransformersSpec(batch_size=0)
    with pytest.raises(ValidationError, match="extra"):
        VllmSpec(max_num_seqs=3)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_not_there(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    resources.cuda_device.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(resources.Path, "exists", lambda self: True)
    assert resources.cuda_device() is None
    resources.cuda_device.cache_clear()

"""Merged adapters give the logits of the adapter beside its base, shared weights or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from itercli.handover.gguf import write_gguf
from itercli.models.merging import adapts_tied
from itercli.records import ModelRef
from itercli.sampling.specs import TransformersSpec
from itercli.sampling.weights import save_merged
from itercli.training.models import load_model, save_weights
from tests.sampling.conftest import ref_of, save_model, save_tokenizer

IDS = torch.tensor([[5, 203, 44, 77, 99, 5]])
TARGETS: dict[str, Any] = {
    "output": ["lm_head"],
    "embedding": ["embed_tokens"],
    "both": ["lm_head", "embed_tokens", "q_proj"],
    "all-linear": "all-linear",
}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits[0].float()


def make(folder: Path, family: str, tied: bool) -> Path:
    save_model(folder, family)
    model = AutoModelForCausalLM.from_pretrained(folder)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.1)
    else:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.save_pretrained(folder)
    return folder


def adapt(base: Path, folder: Path, targets: Any, seed: int = 1) -> ModelRef:
    """An adapter that changes the logits much."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    peft: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"),
    )
    for name, parameter in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    peft.save_pretrained(folder, save_embedding_layers=False)
    return ref_of(base, folder, f"policy@{seed}")


@pytest.mark.parametrize(
    ("family", "targets", "tied"),
    [
        *(("llama", targets, tied) for targets in TARGETS for tied in (True, False)),
        ("gemma2", "both", True),
        ("gpt2", "both", True),
    ],
)
def test_every_way_of_merging_gives_the_logits_of_the_adapter(
    family: str, targets: str, tied: bool, tmp_path: Path
) -> None:
    base = make(tmp_path / "base", family, tied)
    wanted = TARGETS[targets]
    if family == "gpt2" and wanted != "all-linear":
        wanted = [{"embed_tokens": "wte", "q_proj": "c_attn"}.get(name, name) for name in wanted]
    ref = adapt(base, tmp_path / "adapter", wanted)
    other = adapt(base, tmp_path / "other", wanted, seed=2)
    unties = tied and targets != "all-linear"
    assert adapts_tied(ref) is unties

    attached = TransformersSpec(adapter="attach", batch_size=8, dtype="float32", device="cpu").build()
    merged = TransformersSpec(adapter="merge", batch_size=8, dtype="float32", device="cpu").build()
    start = ref_of(base)
    right = {}
    for one in (ref, other, start):
        attached.load(one)
        right[one.version] = logits(attached._model)  # type: ignore[attr-defined]
    assert (right[ref.version] - right[start.version]).abs().max() > 0.1, "else nothing is shown"
    for one in (start, ref, other, start, ref):
        merged.load(one)
        found = logits(merged._model)  # type: ignore[attr-defined]
        assert torch.allclose(found, right[one.version], atol=1e-4, rtol=0), one.version
        if one is start:
            assert torch.equal(found, right[one.version]), "the base comes back exactly"

    for trainable in (False, True):
        whole = load_model(ref, dtype=torch.float32, trainable=trainable)
        assert torch.allclose(logits(whole), right[ref.version], atol=1e-4, rtol=0)
    assert save_merged(ref, tmp_path / "merged") is unties
    save_weights(whole, ref, tmp_path / "trained")
    for name in ("merged", "trained"):
        folder = tmp_path / name
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        assert torch.allclose(logits(loaded), right[ref.version], atol=1e-4, rtol=0), name
        told = json.loads((folder / "config.json").read_text()).get("tie_word_embeddings")
        assert bool(told if told is not None else family != "llama") is (tied and not unties)


def test_gguf_of_an_untied_model_holds_both_weights(tmp_path: Path) -> None:
    base = make(tmp_path / "base", "llama", tied=True)
    ref = adapt(base, tmp_path / "adapter", TARGETS["both"])
    save_merged(ref, tmp_path / "merged")
    save_tokenizer(tmp_path / "merged")
    write_gguf(tmp_path / "merged", tmp_path / "merged" / "model.gguf")
    right = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32))
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path / "merged", gguf_file="model.gguf", dtype=torch.float32
    )
    assert torch.allclose(logits(read), right, atol=1e-3, rtol=0)

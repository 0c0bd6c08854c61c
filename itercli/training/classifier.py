"""Sequence classifiers: loading with head and adapter, and running them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from itercli.models.load import load_classifier_base
from itercli.models.merging import merge
from itercli.records import ModelRef
from itercli.training.base import LoraSpec
from itercli.training.models import compute_dtype, load_tokenizer, with_adapter


def load_classifier(
    ref: ModelRef,
    labels: int,
    *,
    dtype: torch.dtype,
    lora: LoraSpec | None = None,
    trainable: bool = True,
    seed: int = 0,
) -> Any:
    """Load a sequence classifier, on the CPU; see `models.load_model` for what is not said here.

    Args:
        ref: Base weights of any model and perhaps an adapter with the head.
        labels: Outputs of the head; 1 is a regression.
        lora: Train an adapter of this shape, and the head whole.
        trainable: False freezes everything; an adapter stays apart, so that its dropout can be used.
        seed: Draws a head that `ref` lacks, and a new adapter.

    Raises:
        ValueError: `trainable` is off and `ref` has no head of this many outputs.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a report of the missing head, which is no news here
    torch.manual_seed(seed)
    try:
        model, found = load_classifier_base(ref, labels, dtype)
    finally:
        logging.set_verbosity(level)
    # The padding token marks where a causal LM's text ends; without it only single rows would do.
    text_config = model.config.get_text_config()
    if text_config.pad_token_id is None:
        tokenizer = load_tokenizer(ref)
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        text_config.pad_token_id = next(i for i in known if i is not None)
    if not trainable:
        if ref.adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, ref.adapter)
        elif found["missing_keys"] or found["mismatched_keys"]:
            raise ValueError(
                f"{ref.version} ({ref.base}) has no trained head with {labels} output(s); train the role "
                f"first (`uses: train`, method {'reward' if labels == 1 else 'estimator'}), or start it "
                "from a model that has one"
            )
        return model.requires_grad_(False).eval()
    if lora is not None:
        model = with_adapter(model, ref, lora, seed, task="SEQ_CLS")
        for parameter in model.parameters():
            if parameter.requires_grad:  # the head has the base's type: bfloat16 would lose small updates
                parameter.data = parameter.data.float()
        return model
    if ref.adapter is not None:
        from peft import PeftModel

        model, _ = merge(PeftModel.from_pretrained(model, ref.adapter))
    return model.requires_grad_(True)


def frozen_classifier(ref: ModelRef, labels: int, dtype: str) -> Any:
    """A classifier for inference, on the GPU if there is one; `dtype` as in `compute_dtype`."""
    model = load_classifier(ref, labels, dtype=compute_dtype(dtype), trainable=False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def pad_id(model: Any) -> int:
    """The padding token that the model knows."""
    return int(model.config.get_text_config().pad_token_id)


def pad(rows: Sequence[Sequence[int]], padding: int, device: torch.device) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, each [rows, longest], padded on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def classify(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Logits [rows, labels] in float64 on the CPU, from one forward pass."""
    with torch.inference_mode():
        return model(**pad(rows, pad_id(model), model.device)).logits.double().cpu()


def dropouts(model: nn.Module) -> list[tuple[str, nn.Dropout]]:
    """Dropout modules that drop something, by name."""
    found = ((name, m) for name, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p > 0)
    return list(found)

"""How likely a model finds given responses, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from itercli.models.load import load_config
from itercli.records import ModelRef
from itercli.training.collate import Row, pad_rows
from itercli.training.losses import IGNORE
from itercli.training.models import compute_dtype, load_model


def frozen_model(ref: ModelRef, dtype: str) -> Any:
    """A model for evaluation, on the GPU if there is one; `dtype` as in `compute_dtype`."""
    model = load_model(ref, dtype=compute_dtype(dtype), trainable=False)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def context_length(ref: ModelRef) -> float:
    """Longest input of the model in tokens; infinite where its config does not say."""
    return getattr(load_config(ref), "max_position_embeddings", None) or float("inf")


def token_nll(model: Any, rows: Sequence[Row]) -> list[list[float]]:
    """Negative log-likelihood in nats of each response token, row by row.

    Args:
        model: A causal language model in evaluation mode.
        rows: Prompt and response ids; padded together for one forward pass.
    """
    batch = pad_rows(rows, model.device)
    with torch.inference_mode():
        logits = model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.kept).logits
        losses = [  # row by row: logits in float32 are most of the memory
            cross_entropy(one.float(), labels, ignore_index=IGNORE, reduction="none")[labels != IGNORE]
            for one, labels in zip(logits, batch.labels, strict=True)
        ]
    return [loss.tolist() for loss in losses]

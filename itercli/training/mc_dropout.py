"""Monte Carlo dropout whose masks belong to a row, not to a batch.

`nn.Dropout` draws one mask for a whole batch from one generator, so what a row gets depends on
its neighbours, on padding and on what ran before. Here each row has a generator of its own and
draws for its own tokens only. A pass of a pair is the same whether it ran alone or beside others.

Dropout inside attention (of BERT's attention probabilities) is part of a fused kernel and stays
off, as in evaluation; dropout of hidden states and of adapters is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from itercli.training.classifier import classify, dropouts


@dataclass(slots=True)
class Rows:
    """The rows of the forward pass under way; empty: dropout is off.

    Attributes:
        lengths: Tokens of each row, padding not counted.
        drawn: How many masks have been drawn so far.
    """

    generators: list[torch.Generator] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    drawn: int = 0


class RowDropout(nn.Module):
    """Dropout with a mask per row, in training and in evaluation mode."""

    def __init__(self, p: float, rows: Rows) -> None:
        super().__init__()
        self.p, self.rows = p, rows

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of `x` [rows, features] or [rows, length, ...], padded on the right."""
        return x * self.mask(x) if self.rows.generators else x

    def mask(self, x: Tensor) -> Tensor:
        """Factors of each element: 0, or 1 / (1 - p); 1 on padding."""
        rows = self.rows
        if x.shape[0] != len(rows.generators):
            raise ValueError(
                f"this model drops out of a tensor of shape {list(x.shape)}, which is not one of "
                f"{len(rows.generators)} rows; its masks can't be drawn row by row"
            )
        mask = torch.ones_like(x)
        for row, generator, length in zip(mask, rows.generators, rows.lengths, strict=True):
            part = row[:length] if row.dim() > 1 else row
            kept = torch.rand(part.shape, generator=generator, device=x.device) >= self.p
            part.copy_(kept / (1 - self.p))
            rows.drawn += 1
        return mask


def install(model: nn.Module) -> Rows:
    """Put `RowDropout` in the place of every active dropout of `model`; it is off at first."""
    rows = Rows()
    for name, module in dropouts(model):
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, RowDropout(module.p, rows))
    return rows


def stochastic(model: Any, rows: Rows, ids: Sequence[Sequence[int]], seeds: Sequence[int]) -> Tensor:
    """Logits [rows, labels] of one forward pass with dropout, float64 on the CPU.

    Args:
        rows: From `install`.
        ids: Token ids of each row.
        seeds: Of each row's masks.
    """
    rows.generators = [torch.Generator(model.device).manual_seed(seed) for seed in seeds]
    rows.lengths = [len(row) for row in ids]
    try:
        return classify(model, ids)
    finally:
        rows.generators, rows.lengths = [], []

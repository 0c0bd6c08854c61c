"""Masks belong to rows: the same alone, beside others, and under other padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from itercli.records import ModelRef
from itercli.training.base import LoraSpec
from itercli.training.classifier import classify, load_classifier
from itercli.training.mc_dropout import RowDropout, Rows, install, stochastic
from tests.training.classifiers import tiny

IDS = [[2, 5, 6, 7, 3], [2, 8, 9, 10, 11, 12, 13, 3], [2, 5, 3]]
SEEDS = [11, 12, 13]


@pytest.fixture(params=["llama", "bert"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> nn.Module:
    """A pair classifier in evaluation mode: the Llama's dropout is that of its adapter."""
    ref: ModelRef = tiny(request.param, tmp_path)
    lora = LoraSpec(r=4, alpha=8, dropout=0.2) if request.param == "llama" else None
    loaded: nn.Module = load_classifier(ref, 2, dtype=torch.float32, lora=lora).eval()
    for name, parameter in loaded.named_parameters():
        if "lora_B" in name:  # zero at first, so masks would do nothing
            nn.init.normal_(parameter)
    return loaded


def recorded(model: nn.Module, ids: list[list[int]], seeds: list[int]) -> list[list[torch.Tensor]]:
    """For each row, the masks of its own tokens in the order of the dropouts."""
    rows = next(m.rows for m in model.modules() if isinstance(m, RowDropout))
    masks: list[list[torch.Tensor]] = [[] for _ in ids]
    plain = RowDropout.mask

    def mask(self: RowDropout, x: torch.Tensor) -> torch.Tensor:
        drawn = plain(self, x)
        for i, row in enumerate(ids):
            masks[i].append(drawn[i][: len(row)] if x.dim() > 2 else drawn[i])
        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowDropout, "mask", mask)
        stochastic(model, rows, ids, seeds)
    return masks


def test_masks_do_not_depend_on_the_batch(model: nn.Module) -> None:
    install(model)
    together = recorded(model, IDS, SEEDS)
    assert together[0]
    assert any((mask == 0).any() for mask in together[0])
    for n in range(3):
        (alone,) = recorded(model, IDS[n : n + 1], SEEDS[n : n + 1])
        assert all(torch.equal(a, b) for a, b in zip(alone, together[n], strict=True))
    turned = recorded(model, IDS[::-1], SEEDS[::-1])
    assert all(torch.equal(a, b) for a, b in zip(turned[2], together[0], strict=True))
    other = recorded(model, IDS[:1], [99])
    assert not all(torch.equal(a, b) for a, b in zip(other[0], together[0], strict=True))


def test_passes_differ_by_seed_only_and_leave_the_model_as_it_was(model: nn.Module) -> None:
    before = classify(model, IDS).softmax(dim=1)
    rows = install(model)
    assert torch.equal(classify(model, IDS).softmax(dim=1), before)
    first = stochastic(model, rows, IDS, SEEDS)
    assert rows.drawn > 0
    assert (first != stochastic(model, rows, IDS, [1, 2, 3])).any(dim=1).all()
    assert torch.equal(first, stochastic(model, rows, IDS, SEEDS))
    torch.testing.assert_close(stochastic(model, rows, IDS[:1], SEEDS[:1]), first[:1])
    assert torch.equal(classify(model, IDS).softmax(dim=1), before)


def test_a_mask_drops_its_share_and_keeps_the_mean() -> None:
    rows = Rows([torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)], [100, 50])
    dropout = RowDropout(0.3, rows)
    mask = dropout(torch.ones(2, 100, 64))
    assert mask[0].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (mask[0] == 0).double().mean() == pytest.approx(0.3, abs=0.02)
    assert (mask[1, 50:] == 1).all()  # padding
    with pytest.raises(ValueError, match="can't be drawn row by row"):
        dropout(torch.ones(200, 64))

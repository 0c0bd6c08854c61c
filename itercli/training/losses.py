"""Losses as pure functions of log-probabilities, and the objectives made of them.

An objective sees one example at a time: the summed response log-probabilities of its
candidates, and totals over the whole optimizer step. What it returns is *added up* over
the examples of the step, so any split into micro-batches gives the same loss and gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from itercli.training.collate import Group

IGNORE = -100


def response_logprobs(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed log-probability of each row's response.

    Args:
        logits: [rows, length, vocabulary]; position t predicts `labels[:, t]`.
        labels: [rows, length] next-token ids, `IGNORE` outside the response.

    Returns:
        [rows] sums in float32 (float64 for float64 logits).
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="none")
    return -losses.view(labels.shape).sum(dim=1)


def ranking_loss(
    log_likelihoods: Tensor, scores: Sequence[float], *, score_margin: float, prob_margin: float
) -> Tensor:
    """RTLCoder's ranking term for the candidates of one prompt.

    With s = softmax(log_likelihoods), sums ``prob_margin - (s_j - s_i)`` over all pairs with
    ``score_j - score_i > score_margin`` and ``s_j - s_i < prob_margin``. Tied scores give 0.

    Source: RTLCoder (Liu et al. 2024), training code of hkust-zhiyao/RTL-Coder; used by
    ITERTL (arXiv 2407.12022) on fresh samples of each iteration.

    Args:
        log_likelihoods: [n] length-normalised log-likelihoods p_i.
        scores: n quality scores, higher is better.
        score_margin: Scores closer than this are not ranked.
        prob_margin: The better candidate's share should lead by this much.
    """
    shares = torch.softmax(log_likelihoods, dim=0)
    # In double precision: in float32, 1.0 and 0.8 would differ by more than 0.2.
    values = torch.tensor(scores, dtype=torch.float64, device=shares.device)
    better = (values[None, :] - values[:, None]) > score_margin
    lead = shares[None, :] - shares[:, None]
    return (F.relu(prob_margin - lead) * better).sum()


@dataclass(frozen=True, slots=True)
class Totals:
    """What a loss is averaged over: everything in one optimizer step."""

    examples: int
    target_tokens: int

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Totals:
        """Count the examples of a step."""
        return cls(len(groups), sum(row.response_len for g in groups for row in g.rows))


class Objective(Protocol):
    """One example's share of the step's loss."""

    def __call__(self, sums: Tensor, group: Group, totals: Totals) -> tuple[Tensor, dict[str, Tensor]]:
        """Share of the loss, and shares of metrics (detached) that add up over the step.

        Args:
            sums: [candidates] summed response log-probabilities.
            group: The example.
            totals: Counts over the whole step.
        """
        ...


@dataclass(frozen=True, slots=True)
class SftObjective:
    """Cross-entropy of all rows (the target alone is run), mean over all target tokens of the step."""

    def __call__(self, sums: Tensor, group: Group, totals: Totals) -> tuple[Tensor, dict[str, Tensor]]:
        return -sums.sum() / totals.target_tokens, {}


@dataclass(frozen=True, slots=True)
class RankingObjective:
    """Likelihood of the target plus ranking of all candidates; mean over examples.

    `sum`: λ·rank + w·nll. `product`: (λ·rank + w)·nll, as RTLCoder's script has it. Without
    a target both are λ·rank. The nll is the target's mean token cross-entropy over its
    response, whatever `length_norm` says about the ranked likelihoods.
    """

    compare_weight: float
    mle_weight: float
    score_margin: float
    prob_margin: float
    length_norm: Literal["response", "sequence"]
    combine: Literal["sum", "product"]

    def __call__(self, sums: Tensor, group: Group, totals: Totals) -> tuple[Tensor, dict[str, Tensor]]:
        rank = sums.sum() * 0
        if len(group.rows) > 1 and self.compare_weight:
            lengths = [r.response_len if self.length_norm == "response" else len(r.ids) for r in group.rows]
            rank = ranking_loss(
                sums / torch.tensor(lengths, dtype=sums.dtype, device=sums.device),
                group.scores,
                score_margin=self.score_margin,
                prob_margin=self.prob_margin,
            )
        metrics = {"ranking_loss": rank.detach() / totals.examples}
        loss = self.compare_weight * rank
        if group.target is not None:
            nll = -sums[group.target] / group.rows[group.target].response_len
            metrics["target_nll"] = nll.detach() / totals.examples
            if self.combine == "product":
                loss = (loss + self.mle_weight) * nll
            else:
                loss = loss + self.mle_weight * nll
        return loss / totals.examples, metrics

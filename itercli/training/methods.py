"""Training methods that a recipe can name; heavy modules are imported only by `train`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from itercli.records import RankedExample, Record
from itercli.registry import register
from itercli.training.base import Method, TrainJob, TrainResult


def _no_target(policy: str) -> str:
    if policy == "fail":
        raise ValueError("an example has no target; set on_no_target: drop, or let the selector give targets")
    return "no_target"


@register("method", "sft")
class Sft(Method):
    """Supervised fine-tuning: cross-entropy of the target response, prompts masked.

    The loss is the mean over all target tokens of an optimizer step, whatever the micro-batches.
    """

    EXAMPLES: ClassVar[type[Record]] = RankedExample

    on_no_target: Literal["drop", "fail"] = Field("drop", description="Examples without a target.")

    def needed(self, scores: Sequence[float], target: int | None) -> list[int] | str:
        """Candidates that take part: the target alone; or why there is none."""
        return _no_target(self.on_no_target) if target is None else [target]

    def train(self, job: TrainJob) -> TrainResult:
        """Train and leave the model in `job.out`; see `Method.train`."""
        from itercli.training.collate import encode_groups
        from itercli.training.losses import SftObjective
        from itercli.training.run import run_training

        encode = partial(encode_groups, needed=self.needed, on_cut=job.training.on_cut)
        return run_training(job, SftObjective(), encode=encode, options=self.key_params())


@register("method", "ranking")
class Ranking(Method):
    """Likelihood of the target plus RTLCoder's ranking loss over scored candidates.

    For candidates i of a prompt with scores r and length-normalised log-likelihoods p,
    s = softmax(p): ``rank = sum of (prob_margin - (s_j - s_i))`` over pairs with
    ``r_j - r_i > score_margin`` and ``s_j - s_i < prob_margin``.

    Source: RTLCoder's published training code; ITERTL (arXiv 2407.12022) trains with it on
    samples of the current model. RTLCoder's script combines by product and normalises by
    the whole sequence; the defaults here (sum, response only) follow its gradient-splitting
    script and what its authors say the normalisation should be.
    """

    EXAMPLES: ClassVar[type[Record]] = RankedExample

    compare_weight: float = Field(1.0, ge=0, description="Weight λ of the ranking term.")
    mle_weight: float = Field(1.0, ge=0, description="Weight of the target's cross-entropy.")
    score_margin: float = Field(0.2, ge=0, description="Scores closer than this are not ranked.")
    prob_margin: float = Field(0.3, ge=0, le=1, description="Lead that the better candidate should have.")
    length_norm: Literal["response", "sequence"] = Field(
        "response", description="Divide log-likelihoods by response or by all tokens."
    )
    combine: Literal["sum", "product"] = Field("sum", description="λ·rank + w·nll, or (λ·rank + w)·nll.")
    gradient: Literal["joint", "split"] = Field(
        "joint",
        description="split: the same gradient with one candidate in memory at a time, each run twice.",
    )
    on_no_target: Literal["rank", "drop", "fail"] = Field(
        "rank", description="Examples without a target: ranking only, drop, or fail."
    )

    def needed(self, scores: Sequence[float], target: int | None) -> list[int] | str:
        """Candidates that take part: all if any two are to be ranked, else the target alone.

        With no pair to rank the ranking term is exactly zero, so leaving the others out saves
        their forward passes and changes nothing.
        """
        if target is None and self.on_no_target != "rank":
            return _no_target(self.on_no_target)
        ranked = self.compare_weight > 0 and len(scores) > 1 and max(scores) - min(scores) > self.score_margin
        if ranked:
            return list(range(len(scores)))
        if target is None or self.mle_weight == 0:
            return "no_signal"
        return [target]

    def train(self, job: TrainJob) -> TrainResult:
        """Train and leave the model in `job.out`; see `Method.train`."""
        from itercli.training.collate import encode_groups
        from itercli.training.losses import RankingObjective
        from itercli.training.run import run_training

        objective = RankingObjective(
            compare_weight=self.compare_weight,
            mle_weight=self.mle_weight,
            score_margin=self.score_margin,
            prob_margin=self.prob_margin,
            length_norm=self.length_norm,
            combine=self.combine,
        )
        encode = partial(encode_groups, needed=self.needed, on_cut=job.training.on_cut)
        return run_training(
            job, objective, encode=encode, options=self.key_params(), split=self.gradient == "split"
        )

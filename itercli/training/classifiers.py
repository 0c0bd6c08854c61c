"""Classifiers that a recipe can train: a reward model, and the estimator of UPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from itercli.records import PreferencePair, Record
from itercli.registry import register
from itercli.training.base import Method, TrainingSpec, TrainJob, TrainResult

TooLong = Literal["truncate", "drop"]
TOO_LONG = "Inputs over training.max_length: cut the request from its left (counted), or drop the pair."


@register("method", "reward")
class Reward(Method):
    """Bradley-Terry reward model: a classifier with one output r, loss -log σ(r_chosen - r_rejected).

    A step's loss is the mean over its pairs. The start model may be any causal LM or encoder that
    transformers has a sequence classifier for; a head that it lacks is drawn from the seed.

    Source: Bradley and Terry 1952; with margins, Touvron et al. 2023 (arXiv 2307.09288, section 3.2.2).
    The loss printed in UPO, a log of a difference of sigmoids, is not what its code computes.
    """

    EXAMPLES: ClassVar[type[Record]] = PreferencePair

    margin: bool = Field(
        False, description="Ask for a lead of the pair's reward margin: -log σ(r_c - r_r - margin)."
    )
    center: float = Field(0.0, ge=0, description="Weight of (r_chosen + r_rejected)², which keeps r near 0.")
    on_too_long: TooLong = Field("truncate", description=TOO_LONG)
    disable_dropout: bool = Field(
        False, description="Train without any dropout, that of the model and of training.lora included."
    )

    def train(self, job: TrainJob) -> TrainResult:
        """Train and leave the model in `job.out`; see `Method.train`.

        Raises:
            TrainingError: `margin` is on and a pair has no rewards.
        """
        from itercli.training.reward import train_reward

        return train_reward(job, self)


@register("method", "estimator")
class Estimator(Method):
    """Which of two answers is better? A classifier with two outputs, trained on both orders of each pair.

    Its dropout is what makes the passes of `uses: estimate` differ, so it must have some: adapters
    that of `training.lora.dropout`, full tuning that of the model itself. Loss: cross-entropy, mean
    over both orders and the pairs of a step.

    Source: UPO (AAAI-25), section on the estimator; its code trains with dropout 0 and infers with
    0.1, here both are the same.
    """

    EXAMPLES: ClassVar[type[Record]] = PreferencePair

    on_too_long: TooLong = Field("truncate", description=TOO_LONG)

    def check(self, training: TrainingSpec) -> Sequence[tuple[str, ...]]:
        if training.tuning == "lora" and not training.lora.dropout:
            return [
                (
                    "training.lora.dropout",
                    "with dropout 0 all passes of an estimator are the same, and every BALD is 0",
                    "above 0, for example 0.1",
                )
            ]
        return []

    def train(self, job: TrainJob) -> TrainResult:
        """Train and leave the model in `job.out`; see `Method.train`.

        Raises:
            TrainingError: The model has no dropout.
        """
        from itercli.training.estimator import train_estimator

        return train_estimator(job, self)

"""Direct preference optimisation as a recipe names it; the work is in `itercli.training.dpo`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from itercli.records import PreferencePair, Record
from itercli.registry import how, register
from itercli.training.base import Method, TrainJob, TrainResult

Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip

# Losses that TRL itself smooths, each in its own way.
SMOOTHED = frozenset({"robust", "exo_pair", "aot", "aot_unpaired"})
# Losses of a whole batch, which is an optimizer step here: pairs are sorted, or tokens averaged, over it.
BATCHWISE = frozenset({"aot", "aot_unpaired", "sft"})


@register("method", "dpo")
class Dpo(Method):
    """Preference optimisation against a frozen reference model, with doubt about each label.

    With h the policy-minus-reference log-ratio of the chosen answer minus that of the rejected
    one, and z = beta * h, a pair of weight w and doubt a costs

        w * (-(1 - a) * log sigmoid(z) - a * log sigmoid(-z)) - nll_weight * log pi(chosen) / |chosen|

    and a step the mean over its pairs. The doubt joins the pair's own `alpha` and the
    `label_smoothing` of all as independent chances that the label is flipped: a = alpha +
    label_smoothing - 2 * alpha * label_smoothing. The minimum is at sigmoid(z) = 1 - a.

    Other losses are TRL's, by its names; weights apply to them too, doubt does not.

    Source: DPO (arXiv 2305.18290), conservative DPO (Mitchell 2023), the likelihood term of
    iterative RPO (arXiv 2404.19733), alpha per pair after UPO (AAAI-25). TRL 1.16 ignores
    `label_smoothing` for its sigmoid loss and has no per-pair terms.
    """

    EXAMPLES: ClassVar[type[Record]] = PreferencePair
    USES_REFERENCE: ClassVar[bool] = True

    loss: Loss = Field("sigmoid", description="TRL's loss types; aot*, sft run a whole step in one pass.")
    beta: float = Field(0.1, gt=0, description="How closely the policy is held to the reference.")
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Chance that any label is wrong: conservative DPO (sigmoid), or as the loss defines it.",
    )
    nll_weight: float = Field(0.0, ge=0, description="Weight λ of the chosen answers' mean token NLL.")
    use_alpha: bool = Field(True, description="Take each pair's alpha (sigmoid only).")
    use_weight: bool = Field(True, description="Take each pair's weight (not for aot*, sft).")
    disable_dropout: bool = Field(
        False, description="Train without any dropout, that of the model and of training.lora included."
    )
    precompute_reference: bool = how(
        default=True,
        description="Run the reference model once, before training: one model in memory instead of two.",
    )

    @model_validator(mode="after")
    def _smoothing_fits(self) -> Dpo:
        if self.label_smoothing and self.loss != "sigmoid" and self.loss not in SMOOTHED:
            raise ValueError(
                f"loss {self.loss!r} takes no label_smoothing; set it to 0, or loss to one of "
                f"{', '.join(['sigmoid', *sorted(SMOOTHED)])}"
            )
        if self.loss == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss 'exo_pair' needs label_smoothing > 0; its paper recommends 0.001")
        return self

    def doubt(self, pair: PreferencePair) -> float:
        """Chance a that the pair's label is wrong, as the sigmoid loss takes it.

        Raises:
            ValueError: An alpha that the loss can't take, or that is no probability.
        """
        alpha = pair.alpha if self.use_alpha else 0.0
        if not 0 <= alpha <= 1:
            raise ValueError(f"pair {pair.key} has alpha {alpha}; it is a probability, from 0 to 1")
        if self.loss != "sigmoid":
            if alpha:
                raise ValueError(
                    f"pair {pair.key} has alpha {alpha}, which only loss 'sigmoid' takes; set method.loss: "
                    "sigmoid, or method.use_alpha: false"
                )
            return 0.0
        return alpha + self.label_smoothing - 2 * alpha * self.label_smoothing

    def weight(self, pair: PreferencePair) -> float:
        """Weight of the pair's loss.

        Raises:
            ValueError: A weight that the loss can't take, or below 0.
        """
        weight = pair.weight if self.use_weight else 1.0
        if weight < 0:
            raise ValueError(f"pair {pair.key} has weight {weight}; weights are 0 or more")
        if self.loss in BATCHWISE and weight != 1:
            raise ValueError(
                f"pair {pair.key} has weight {weight}, but loss {self.loss!r} is of a whole step, not of "
                "pairs; set method.use_weight: false, or another method.loss"
            )
        return weight

    def train(self, job: TrainJob) -> TrainResult:
        """Train and leave the model in `job.out`; see `Method.train`."""
        from itercli.training.dpo import run_dpo

        return run_dpo(job, self)

"""Stage `divergence`: how far a policy has moved from the model it began as.

The KL divergence KL(π‖π_ref) is an expectation over what π writes, so completions that π drew
give unbiased estimates of it (Schulman, "Approximating KL divergence", 2020): k1, the mean of
log π − log π_ref, and, token by token, k3, which has less variance and is never negative.
They hold for completions drawn at temperature 1 without top-p, top-k or penalties; with others
the number is still a distance that can be followed over iterations, but of the policy's own
distribution it is no estimate.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.records import Record, Trajectory
from itercli.registry import register
from itercli.stages.base import ModelLink, StageContext, StageError
from itercli.stages.forward import ForwardStage


class Divergence(Record):
    """One completion under the policy and under its reference.

    Attributes:
        tokens: Tokens of the completion, its end-of-turn token included where it ended ("stop").
        kl: log π(y|x) − log π_ref(y|x), in nats (k1).
        kl_per_token: `kl` / `tokens`.
        k3: Mean over tokens of r − 1 − log r with r = π_ref / π, in nats; never negative.
    """

    prompt_id: str
    index: int
    policy: str
    tokens: int
    kl: float
    kl_per_token: float
    k3: float


@register("stage", "divergence")
class DivergenceStage(ForwardStage):
    """KL of a role's current version to a reference, on completions that this version drew.

    A prompt's value is the mean over its completions. Both models are held in memory. Where
    they are the same one, all is exactly 0 and no model is loaded.
    """

    ENDS = True
    VERSION: ClassVar[int] = 2

    uses: Literal["divergence"] = "divergence"
    against: Literal["initial"] = Field("initial", description="The reference: the role's start model.")
    metrics: tuple[Literal["kl", "kl_per_token", "k3"], ...] = Field(
        ("kl", "kl_per_token", "k3"),
        min_length=1,
        description="Nats per completion, per token, and per token as the k3 estimate.",
    )

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current"), ModelLink("reference", self.role, self.against)]

    def run(self, ctx: StageContext) -> None:
        policy, reference = ctx.models["policy"], ctx.models["reference"]
        others = {t.policy for a in ctx.inputs["of"] for t in a.rows(Trajectory)} - {policy.version}
        if others:
            raise StageError(
                f"{ctx.name}: the completions of {self.of} were drawn by {', '.join(sorted(others))}, but "
                f"the current version here is {policy.version}. Name a stage that samples after the training "
                "(evaluate.sample), or put this one before it"
            )
        models = [] if policy.digest == reference.digest else [policy, reference]
        self.report(ctx, self.forward(ctx, Divergence, policy, models, self._row))

    def _row(
        self, drawn: Trajectory, tokenizer: Any, ids: list[int], losses: list[list[float]]
    ) -> Divergence:
        kl = k3 = 0.0
        if losses:
            # log π − log π_ref of each token
            ratios = [theirs - own for own, theirs in zip(*losses, strict=True)]
            kl, k3 = math.fsum(ratios), math.fsum(map(_k3, ratios)) / len(ids)
        return Divergence(
            prompt_id=drawn.prompt_id,
            index=drawn.index,
            policy=drawn.policy,
            tokens=len(ids),
            kl=kl,
            kl_per_token=kl / len(ids),
            k3=k3,
        )


def _k3(ratio: float) -> float:
    return math.expm1(min(-ratio, 700.0)) + ratio  # more would overflow

"""What stages that draw completions share: how to draw, and the sampler with its policies."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from itercli.recipe.fields import Sampler as SamplerField
from itercli.records import ModelRef
from itercli.sampling.base import Sampler, SamplerSpec, SamplingParams
from itercli.stages.base import Stage, StageContext


class DrawingStage(Stage):
    """A stage of the sampling worker with the options of `SamplingParams` as its own."""

    WORKER = "sample"
    SEEDED = True
    DEFAULTS = ("sampler",)

    temperature: float = Field(0.8, ge=0, description="Softmax temperature; 0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus mass; 1 is off.")
    top_k: int = Field(0, ge=0, description="Tokens kept; 0 is off.")
    repetition_penalty: float = Field(1.0, gt=0, description="Penalty on tokens seen before; 1 is off.")
    max_new_tokens: int = Field(512, ge=1, description="Token budget of a completion.")
    stop: tuple[str, ...] = Field((), description="Strings that end a completion.")
    logprobs: bool = Field(
        False, description="Keep the log-probability of each sampled token under the model itself."
    )
    sampler: SamplerField = Field(description="How to sample; `sampler:` of the recipe unless given.")

    def params(self, **changes: Any) -> SamplingParams:
        """How to draw, with `changes` for one kind of call."""
        return SamplingParams(**{name: getattr(self, name) for name in PARAMS} | changes)


PARAMS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "stop", "logprobs")


def open_sampler(ctx: StageContext, spec: SamplerSpec, policy: ModelRef, *others: ModelRef) -> Sampler:
    """The worker's sampler with these policies answering; logs how they were switched to."""
    spec = spec.resolve()
    # One sampler is kept per prefix. Those that hold no memory have one of their own, so that a
    # judge behind a server does not take down the engine that samples here.
    prefix = f"{spec.NAME} sampler" if spec.REMOTE else "sampler"
    sampler = ctx.shared(f"{prefix}:{json.dumps(spec.model_dump(mode='json'), sort_keys=True)}", spec.build)
    report = sampler.load(policy, *others)
    ctx.event("policy_loaded", policy=policy.version, digest=policy.digest, **report)
    return sampler

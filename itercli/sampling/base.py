"""The sampler protocol: policies are switched in place, finished completions stream out.

A sampler is built once per worker and outlives iterations: `load` switches the policy,
`generate` draws. A completion is determined by (policy, prompt, its own seed, sampling
parameters); what else is in the batch, the order of requests and restarts must not
matter (exactly so for `transformers` on CPU; engines whose numerics depend on the batch
say so).

This module imports nothing heavy: stages use its types on the light floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from itercli.errors import IterError
from itercli.records import Finish, Generated, Message, ModelRef
from itercli.registry import Component
from itercli.resources import this_machine


class SamplingParams(BaseModel):
    """How to draw a completion.

    Attributes:
        temperature: Softmax temperature; 0 is greedy.
        top_p: Nucleus mass in (0, 1]; 1 switches it off.
        top_k: Number of tokens kept; 0 switches it off.
        max_new_tokens: Token budget, the end-of-turn token included.
        repetition_penalty: Logits of tokens seen in prompt or completion are divided (if
            positive) or multiplied by it, as in CTRL (Keskar et al. 2019); 1 is off.
        stop: Strings that end the completion; they are not part of it.
        logprobs: Keep each token's log-probability under the model itself, see `Generated.logprobs`.
        json_schema: The completion must be JSON that fits. vLLM and OpenAI-compatible servers
            enforce it while decoding; the transformers sampler does not: parse defensively.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(0.8, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    repetition_penalty: float = Field(1.0, gt=0)
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to draw.

    Attributes:
        key: Identity of the row, (prompt id, sample index); returned with the result.
        seed: The completion's own seed, 63 bits.
        continue_final: Continue the last (assistant) message instead of opening a new turn.
        fit: Shrink the token budget to what the prompt leaves of the context; a prompt that
            leaves nothing ends as finish "error" instead of raising.
        policy: Version of the loaded policy that answers; None is the first one.
    """

    key: tuple[str, int]
    messages: tuple[Message, ...]
    seed: int
    params: SamplingParams
    continue_final: bool = False
    fit: bool = False
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """A finished completion.

    Attributes:
        text: Without the token that ended it and without stop strings; other special tokens that the
            model wrote stand in it as their text.
        tokens: Number of tokens sampled, the end token and those of a stop string included.
        generated: The tokens of `text`; None where they aren't known.
    """

    key: tuple[str, int]
    text: str
    finish: Finish
    tokens: int
    meta: dict[str, Any] = field(default_factory=dict)
    generated: Generated | None = None


class Sampler(Protocol):
    """Draws completions from the loaded policies; lives in a worker process.

    One that has the tokenizer at hand also has ``measure(messages) -> (tokens, context)``: the
    length of a prompt as it would be sampled from, and the longest prompt plus completion of
    the loaded policy, None where there is no limit.
    """

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        """Make `model` the policy that answers; cheap if its base is loaded already.

        With `others`, several policies answer in one call of `generate`, each the requests
        that name its version.

        Ends with a probe that proves the switch: greedy continuations (or log-probs) of a
        fixed prompt under the new policy, compared with what that policy gave before if it
        was seen before, and with the previous policy if the digests differ.

        Returns:
            What to log: seconds, how the switch was done, probe result.

        Raises:
            SamplerError: The model can't be loaded, or the probe shows the old policy.
        """
        ...

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        """Yield completions as they finish, in any order, until all are done or `stopping()`.

        `requests` is read as capacity frees up. It may give None for "nothing just now, ask
        again after the next finished completion"; only while completions are under way.

        Raises:
            SamplerError: A prompt does not fit into the context; the key is named.
        """
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


class SamplerError(IterError):
    """Sampling can't go on; the message names the request or model and the fix."""


class SamplerSpec(Component):
    """Options of a sampler; `build` runs in a worker and may import heavy modules.

    Class attributes:
        REMOTE: The models are in a server, so it holds no memory here, and it alone can draw
            from roles that are `served`.
    """

    REMOTE: ClassVar[bool] = False

    def build(self) -> Sampler:
        """Create the sampler without a model loaded."""
        raise NotImplementedError

    def resolve(self) -> SamplerSpec:
        """The sampler that really runs on this machine (see `auto`); light."""
        return self.resolved(this_machine())

    def misfit(self, served: str | None) -> tuple[str, str] | None:
        """Why it can't draw from a role, and what is allowed; None if it can.

        Args:
            served: The role's name on a server; None for a model of this machine.
        """
        if served is None or self.REMOTE:
            return None
        return (
            f"{self.NAME} samples from models of this machine, but {served!r} is only behind a server",
            "{name: openai, base_url: ...}",
        )

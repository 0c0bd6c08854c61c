"""What all samplers do with a request before it runs: who answers it, and how long it may get.

Light: no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from itercli.records import ModelRef
from itercli.sampling.base import Request, Sampled, SamplerError

T = TypeVar("T")


def distinct(model: ModelRef, *others: ModelRef) -> dict[str, ModelRef]:
    """The policies of a `load` by digest, in order; equal weights under two versions are one.

    Raises:
        SamplerError: One version names two different models.
    """
    versions: dict[str, str] = {}
    refs: dict[str, ModelRef] = {}
    for ref in (model, *others):
        refs.setdefault(ref.digest, ref)
        if versions.setdefault(ref.version, ref.digest) != ref.digest:
            raise SamplerError(f"{ref.version}: two different models were given under this one version")
    return refs


def by_version(served: Mapping[str, T], model: ModelRef, *others: ModelRef) -> dict[str | None, T]:
    """What answers for each version, from what answers for each digest; None is the first."""
    return {None: served[model.digest]} | {ref.version: served[ref.digest] for ref in (model, *others)}


def policy_of(policies: Mapping[str | None, T], request: Request) -> T:
    """What answers a request.

    Raises:
        SamplerError: Nothing is loaded, or not the version that the request names.
    """
    if request.policy in policies:
        return policies[request.policy]
    if not policies:
        raise SamplerError("no policy is loaded; call load() first")
    loaded = ", ".join(version for version in policies if version is not None)
    raise SamplerError(f"request {request.key}: asks {request.policy}, but loaded are {loaded}")


def budget(request: Request, prompt_tokens: int, context: int | None) -> int:
    """Tokens that a request may generate; 0 where its prompt leaves no room and `fit` is set.

    Args:
        context: Longest prompt plus completion in tokens, or None.

    Raises:
        SamplerError: The prompt is empty, or, without `fit`, prompt and budget exceed the context.
    """
    if prompt_tokens == 0:
        raise SamplerError(f"request {request.key}: the prompt has no tokens")
    wanted = request.params.max_new_tokens
    if context is None or prompt_tokens + wanted <= context:
        return wanted
    if request.fit:
        return max(0, context - prompt_tokens)
    raise SamplerError(
        f"request {request.key}: prompt of {prompt_tokens} tokens + max_new_tokens {wanted} exceeds the "
        f"model's context of {context}; lower max_new_tokens or drop the prompt"
    )


def no_room(request: Request, prompt_tokens: int, context: int | None) -> Sampled:
    """The row of a request whose prompt leaves nothing of the context."""
    why = f"the prompt of {prompt_tokens} tokens fills the model's context of {context}"
    meta = {"prompt_tokens": prompt_tokens, "error": why}
    return Sampled(key=request.key, text="", finish="error", tokens=0, meta=meta)

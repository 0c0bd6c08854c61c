"""Whether a plan's stages run untrusted programs, and whether those are shut in as the recipe asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from itercli.engine import sandbox
from itercli.recipe.errors import Problem
from itercli.registry import Component
from itercli.stages.base import Stage


def sandboxed(value: Any) -> bool:
    """Whether a component, or one that it holds, runs programs in the sandbox."""
    if isinstance(value, Component):
        return value.SANDBOXED or any(sandboxed(getattr(value, name)) for name in type(value).model_fields)
    if isinstance(value, Mapping):
        return any(map(sandboxed, value.values()))
    return isinstance(value, list | tuple) and any(map(sandboxed, value))


def problem(stages: Iterable[Stage], wish: str) -> Problem | None:
    """Why the stages' programs can't be shut in as `executor.sandbox` asks, if so."""
    if any(map(sandboxed, stages)):
        try:
            sandbox.isolation(wish)
        except sandbox.SandboxError as error:
            return Problem("executor.sandbox", str(error), wish)
    return None


def note(stages: Iterable[Stage], wish: str) -> str:
    """A line for a plan whose programs are not isolated; empty if they are."""
    return sandbox.warning(wish) if any(map(sandboxed, stages)) else ""

"""What a verifier and a scorer are.

A *verifier* judges one answer with a tool (`Verdict`). A *scorer* is the component that a
recipe names: `open()` gives a `Judge`, which holds what judging needs (caches, tool
processes, a model) and turns trajectories into `Score` rows. `Judge.score` must be safe to
call from many threads at once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol

from pydantic import Field

from itercli.records import Prompt, Record, Score, Trajectory
from itercli.registry import Component


class Verdict(Record):
    """A verifier's judgement of one answer.

    Attributes:
        outcome: Outcome class ("pass", "syntax", "mismatch" ...).
        passed: Whether the answer is functionally right.
        message: What the tool said, shortened; untrusted text.
        seconds: Wall time of the tools; what a cached verdict had cost.
        meta: Further measurements.
    """

    outcome: str
    passed: bool
    message: str = ""
    seconds: float = 0.0
    meta: dict[str, Any] = Field(default_factory=dict)


class Judge(Protocol):
    """An opened scorer; thread-safe."""

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score:
        """Judge one completion. A bad answer is a low score, never an exception."""
        ...

    def close(self) -> None:
        """Give back what the judge holds."""
        ...


class Scorer(Component):
    """Base of all scorers: options here, work in the judge.

    Class attributes:
        MEASURES: Numbers that it puts into each row's `Score.meta`, which `evaluate` can
            report as metrics; None in a row means missing.
    """

    MEASURES: ClassVar[tuple[str, ...]] = ()

    def leaves_open(self) -> tuple[str, ...]:
        """Fields of `Score` that it never fills: ``Score.passed`` if it can't tell right from wrong."""
        return ()

    @abstractmethod
    def open(self) -> Judge:
        """Make the judge; called in a worker."""

    def fingerprint(self) -> dict[str, str]:
        """Versions of tools that can change a score, for the stage key."""
        return {}

"""The tracking protocol: options of a tracker (light), and the sink that it opens (in a follower)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.registry import Component

Axis = Literal["iteration", "global_step"]
ITERATION: Axis = "iteration"
GLOBAL_STEP: Axis = "global_step"


@dataclass(frozen=True, slots=True)
class Point:
    """Metrics at one place of an axis.

    Attributes:
        at: Iteration (0 is before the loop), or optimizer steps of a training stage so far,
            those of earlier iterations included.
        values: ``STAGE/METRIC`` -> number; trackers make a section of what stands before the slash.
    """

    axis: Axis
    at: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class SampleTable:
    """A few rows of an iteration, cleaned for showing; every cell is text or a number."""

    iteration: int
    stage: str
    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model version's folder: an adapter or whole weights."""

    role: str
    version: str
    path: Path


@dataclass(slots=True)
class About:
    """The run that is tracked.

    Attributes:
        identity: Names the run for a tracker; the same for every attempt.
        folder: The run's folder for what trackers write, ``runs/NAME/tracking``.
        config: The resolved recipe.
        group: Name of the sweep that the run belongs to.
        memory: What the sink wants to find again in the next attempt; kept in the position file.
    """

    name: str
    identity: str
    folder: Path
    config: dict[str, Any]
    tags: list[str] = field(default_factory=list)
    group: str | None = None
    memory: dict[str, Any] = field(default_factory=dict)


class Sink:
    """A tracker that was opened. Any method may raise: the follower tries again."""

    def log(self, points: Iterable[Point]) -> None:
        """Send metrics. A place that was sent before gets newer values; the newest count."""
        raise NotImplementedError

    def table(self, table: SampleTable) -> None:
        """Send samples."""

    def model(self, model: ModelFiles) -> None:
        """Send a model's files."""

    def flush(self) -> None:
        """Hand over what was sent; called before the position is remembered."""

    def close(self, state: str, summary: dict[str, Any]) -> None:
        """The run ended, or went on without being followed.

        Args:
            state: finished, failed, interrupted, died or running.
            summary: Numbers and texts that stand for the whole run.
        """


class Tracker(Component):
    """Base of trackers. Nothing here changes a result, so none of it is part of a key.

    Class attributes:
        PACKAGE: What it needs, as it is imported; none: nothing.
        EXTRA: The extra of itercli that brings it.
    """

    PACKAGE: ClassVar[str] = ""
    EXTRA: ClassVar[str] = ""

    wait: float = Field(
        10.0, ge=0, description="Seconds that the end of a run waits for what is still to be sent."
    )

    @classmethod
    def missing(cls) -> str:
        """How to install what is not there; empty if nothing is missing."""
        if not cls.PACKAGE or importlib.util.find_spec(cls.PACKAGE) is not None:
            return ""
        return f"tracker {cls.NAME} needs the package {cls.PACKAGE}: pip install 'itercli[{cls.EXTRA}]'"

    @property
    def sample_rows(self) -> int:
        """Rows of the sample table of each iteration; 0: none."""
        return int(getattr(self, "samples", 0))

    @property
    def model_choice(self) -> str | None:
        """Which model is sent when the run is finished: ``last``, ``best`` or none."""
        return getattr(self, "model", None) or None

    def open(self, about: About) -> Sink:
        """Start, or go on with, the tracker's own run. Called in a follower: may import anything.

        Raises:
            Exception: Anything; the follower tries again later.
        """
        raise NotImplementedError

    def catch_up(self, about: About) -> str:
        """Part of `iter sync`: upload what earlier attempts left on disk.

        Returns:
            What stands in the way; empty if nothing is left there.
        """
        return ""


def as_code(text: str) -> str:
    """Text for a place that shows Markdown: indented it is code, and what a model wrote stays text."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """A nested mapping as ``dotted.key`` -> value; lists as text."""
    found: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found |= flat(value, f"{name}.")
        elif value is not None:
            found[name] = value if isinstance(value, str | int | float) else str(value)
    return found

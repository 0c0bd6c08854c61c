"""What records of older versions, which have no checksum, must look like to be read."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """Fields that readers rely on; others may be there."""

    model_config = ConfigDict(strict=True, extra="allow")


class Interval(Shape):
    """A metric with its interval."""

    value: float | None
    low: float | None = None
    high: float | None = None


Metrics = dict[str, float | str | bool | Interval | list[Any] | None]


class Place(Shape):
    """A node in run.json."""

    kind: str
    key: str
    uses: str
    iteration: int
    needs: list[str]
    models: dict[str, str]


class Role(Shape):
    """A role's start model in run.json."""

    path: str | None = None
    adapter: str | None = None
    digest: str | None = None
    source: str | None = None


class RunInfo(Shape):
    """run.json."""

    nodes: dict[str, Place] = {}
    state: str = ""
    recipe: str | None = None
    headline: str | None = None
    created: str | None = None
    updated: str | None = None
    error: str | None = None
    stopped_early: str | None = None
    folder: str = ""
    overrides: list[str] = []
    iterations: int = 0
    seconds: float = 0
    roles: dict[str, Role] = {}


class Event(Shape):
    """A line of events.jsonl."""

    time: str
    event: str
    node: str | None = None
    key: str | None = None


class MetricLine(Shape):
    """A line of metrics.jsonl."""

    time: str
    node: str
    iteration: int
    stage: str
    key: str
    metrics: Metrics


class Step(Shape):
    """A line of steps.jsonl."""

    step: int


class File(Shape):
    """A file in a manifest."""

    sha256: str
    size: int


class Removed(Shape):
    """What was removed of an artifact on purpose."""

    files: list[str]


class Manifest(Shape):
    """manifest.json."""

    kind: str
    key: str
    digest: str
    ingredients: dict[str, Any]
    inputs: dict[str, list[dict[str, str]]]
    models: dict[str, dict[str, str]] = {}
    files: dict[str, File]
    rows: int | None
    record: str | None
    counts: dict[str, int]
    metrics: Metrics
    seconds: float
    finished: str
    work: dict[str, float | None] = {}
    versions: dict[str, str] = {}
    removed: Removed | None = None


class Layout(Shape):
    """model.json of a model's artifact."""

    base: str | None
    adapter: str | None
    digest: str | None


class Total(Shape):
    """journal.json."""

    total: int

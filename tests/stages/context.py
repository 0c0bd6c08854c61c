"""A stage context in memory, for stages that are quick enough to run in the test's process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from itercli.records import Record
from itercli.stages.base import Stage


class Rows:
    """An artifact that holds its rows."""

    def __init__(self, rows: Iterable[Record], label: str) -> None:
        self.held, self.label = list(rows), label

    def rows(self, record: type[Record]) -> Iterator[Record]:
        assert all(type(row) is record for row in self.held)
        return iter(self.held)

    def follow(self, record: type[Record]) -> Iterator[Record | None]:
        yield from self.rows(record)

    def count(self) -> int | None:
        return len(self.held)


class Context:
    """What the stage was given and what it left."""

    name, iteration, work = "here", 1, Path()

    def __init__(self, inputs: Mapping[str, Iterable[Record]], seed: int = 0) -> None:
        self.seed = seed
        self.inputs = {slot: [Rows(rows, f"before/{slot}")] for slot, rows in inputs.items()}
        self.models: dict[str, Any] = {}
        self.rows: list[Any] = []
        self.counts: dict[str, int] = {}
        self.files: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    def stopping(self) -> bool:
        return False

    def progress(self, *args: Any, **kwargs: Any) -> None:
        pass

    def event(self, kind: str, **fields: Any) -> None:
        self.events.append((kind, fields))

    def finish_rows(self, record: type[Record], rows: Iterator[Record], **counts: int) -> None:
        self.rows, self.counts = list(rows), counts
        assert all(type(row) is record for row in self.rows)
        keys = [row.key for row in self.rows]
        assert len(keys) == len(set(keys))

    def finish_file(self, name: str, value: Any) -> None:
        self.files[name] = value

    def finish_metrics(self, metrics: dict[str, Any]) -> None:
        self.metrics = metrics


def run(stage: Stage, seed: int = 0, **inputs: Iterable[Record]) -> Context:
    """Run a stage on rows by slot."""
    context = Context(inputs, seed)
    stage.run(context)  # type: ignore[arg-type]
    return context

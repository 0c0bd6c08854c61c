"""Trackers for tests: one that writes down what it gets, and three that misbehave."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from itercli.registry import register
from itercli.tracking.base import About, ModelFiles, Point, SampleTable, Sink, Tracker


class RecordSink(Sink):
    def __init__(self, about: About) -> None:
        self.path = about.folder / "record.jsonl"
        about.memory["opened"] = about.memory.get("opened", 0) + 1
        self.write({"opened": about.identity})

    def write(self, value: Any) -> None:
        self.path.parent.mkdir(exist_ok=True)
        with open(self.path, "a") as handle:
            handle.write(json.dumps(value, default=str) + "\n")

    def log(self, points: Iterable[Point]) -> None:
        for point in points:
            self.write(asdict(point))

    def table(self, table: SampleTable) -> None:
        self.write({"table": asdict(table)})

    def model(self, model: ModelFiles) -> None:
        self.write({"model": asdict(model)})

    def close(self, state: str, summary: dict[str, Any]) -> None:
        self.write({"closed": state, **summary})


@register("tracker", "record")
class Record(Tracker):
    samples: int = 0
    model: Any = False

    def open(self, about: About) -> Sink:
        return RecordSink(about)


@register("tracker", "raises")
class Raises(Tracker):
    def open(self, about: About) -> Sink:
        raise SystemExit("no \x1b[31mway")  # what a library that wants a login does


@register("tracker", "hangs")
class Hangs(Tracker):
    def open(self, about: About) -> Sink:
        while True:
            time.sleep(3600)


@register("tracker", "dies")
class Dies(Tracker):
    def open(self, about: About) -> Sink:
        os.kill(os.getpid(), 9)
        raise AssertionError


@register("tracker", "absent")
class Absent(Tracker):
    PACKAGE = "itercli_no_such_package"
    EXTRA = "absent"

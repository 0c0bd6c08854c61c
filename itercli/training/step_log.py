"""`steps.jsonl` of a model's artifact: the training metrics of every optimizer step.

Written while it trains, so that it can be followed, and the same bytes whether or not the
training was cut off: steps that are done again replace what was written of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itercli.engine.checked import Lines, append_line, seal
from itercli.engine.files import write_atomic
from itercli.engine.shapes import Step

STEPS = "steps.jsonl"
# What depends on the machine and the moment, not on the training.
TIMINGS = frozenset({"tokens_per_second"})


class StepLog:
    """The log of one training. The file is touched when the first step is added."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STEPS
        self._begun = False

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Note the metrics of a step (the first is 1)."""
        kept = {n: v if math.isfinite(v) else None for n, v in metrics.items() if n not in TIMINGS}
        if not self._begun:
            self._begun = True
            before = [row for row in read_steps(self.path) if row["step"] < step]
            write_atomic(self.path, b"".join(seal(json.dumps(row).encode()) for row in before))
        append_line(self.path, {"step": step, **kept})


def read_steps(path: Path) -> Iterator[dict[str, Any]]:
    """Steps so far, ``{"step", METRIC: value}``; damaged lines are passed over, and told once."""
    return iter(Lines(path, Step, "step"))

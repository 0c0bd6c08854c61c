"""What a run has for a tracker: read from its files, compared with what was sent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine.runs import Run
from itercli.recipe.seeds import digest
from itercli.report.samples import Query, choose, page
from itercli.report.text import clean
from itercli.tracking.base import GLOBAL_STEP, ITERATION, ModelFiles, Point, SampleTable, Tracker
from itercli.training.step_log import STEPS, read_steps

LONGEST_CELL = 10_000
TABLE_KINDS = ("examples", "pairs", "dialogues", "episodes", "trees")


@dataclass(frozen=True, slots=True)
class Batch:
    """Something to send at once.

    Attributes:
        id: Names it in the position file.
        mark: What the position file holds once it was sent; another mark means that it is new.
    """

    id: str
    mark: Any
    content: list[Point] | SampleTable | ModelFiles


class Feed:
    """The news of one run for one tracker.

    Args:
        sent: `Batch.id` -> mark of what was sent; read anew by each call of `news`.
    """

    def __init__(self, run: Run, tracker: Tracker, sent: dict[str, Any]) -> None:
        self.run, self.tracker, self.sent = run, tracker, sent
        self._seen: tuple[int, ...] = ()

    def news(self, *, ended: bool = False) -> Iterator[Batch]:
        """What is there and was not sent, oldest first.

        Args:
            ended: The run is finished: the model is chosen only then.
        """
        yield from self._metrics()
        nodes = self.run.info.get("nodes", {})
        yield from self._steps(nodes)
        if self.tracker.sample_rows:
            yield from self._tables(nodes)
        if self.tracker.model_choice and ended:
            yield from self._model()

    def _new(self, batch: Batch) -> Iterator[Batch]:
        # Through JSON, as the mark comes back from the position file.
        if self.sent.get(batch.id) != json.loads(json.dumps(batch.mark)):
            yield batch

    def _metrics(self) -> Iterator[Batch]:
        for line in self.run.metrics():
            stage = line["stage"] if line["node"].partition("/")[0] != "after" else f"after/{line['stage']}"
            values = numbers(line["metrics"], f"{stage}/")
            batch = Batch(
                f"metrics {line['node']}",
                digest([line["key"], line["metrics"]]),
                [Point(ITERATION, line["iteration"], values)] if values else [],
            )
            yield from self._new(batch)

    def _steps(self, nodes: dict[str, Any]) -> Iterator[Batch]:
        """Training metrics by optimizer step, counted on from iteration to iteration."""
        total: dict[str, int | None] = {}
        for node, place in nodes.items():
            if place["kind"] != "model":
                continue
            stage = node.partition("/")[2]
            before = total.get(stage, 0)
            entry = self.run.store.entry(place["kind"], place["key"])
            if before is None or not (entry.path / STEPS).exists():
                continue
            rows = list(read_steps(entry.path / STEPS))
            # Where the next iteration's training starts is known when this one is done.
            total[stage] = before + len(rows) if entry.manifest is not None else None
            mark = self.sent.get(f"steps {node}") or ["", 0]
            done = mark[1] if mark[0] == place["key"] else 0
            points = [
                Point(GLOBAL_STEP, before + row["step"], numbers(row, f"training/{stage}.", skip="step"))
                for row in rows
                if row["step"] > done
            ]
            if points:
                yield Batch(f"steps {node}", [place["key"], rows[-1]["step"]], points)

    def _tables(self, nodes: dict[str, Any]) -> Iterator[Batch]:
        """A few rows of each iteration, from the stage that `iter samples` shows of it."""
        iterations: dict[int, list[dict[str, Any]]] = {}
        for place in nodes.values():
            iterations.setdefault(place["iteration"], []).append(place)
        for iteration, places in iterations.items():
            id, mark = f"samples {iteration}", digest([p["key"] for p in places])
            if self.sent.get(id) == mark or any(
                self.run.store.entry(p["kind"], p["key"]).manifest is None for p in places
            ):
                continue
            with suppress(LookupError):  # an iteration without rows to look at
                yield Batch(id, mark, sample_table(self.run, iteration, self.tracker.sample_rows))

    def _model(self) -> Iterator[Batch]:
        from itercli.report.details import details

        content = details(self.run)
        made = {m["version"]: m for m in content["lineage"] if m["made_by"] and m["path"]}
        chosen = {m["role"]: version for version, m in made.items()}
        if self.tracker.model_choice == "best" and content["best"]:
            chosen = {role: use["version"] for role, use in content["best"]["models"].items()}
        for role, version in chosen.items():
            if version in made:  # a start model is known by its name
                files = ModelFiles(role, version, Path(made[version]["path"]))
                yield from self._new(Batch(f"model {role}", [version, made[version]["digest"]], files))


def numbers(metrics: dict[str, Any], prefix: str, skip: str = "") -> dict[str, float]:
    """Metrics as plain numbers; the ends of an interval stand beside its value as NAME_low and NAME_high."""
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found[name] = value.get("value")
            found |= {f"{name}_{end}": value.get(end) for end in ("low", "high")}
        elif name != skip:
            found[name] = value
    return {
        f"{prefix}{n}": float(v) for n, v in found.items() if isinstance(v, int | float) and math.isfinite(v)
    }


def sample_table(run: Run, iteration: int, rows: int) -> SampleTable:
    """The first rows of an iteration, whatever kind they are.

    Raises:
        LookupError: There are none.
    """
    node = choose(run, stage=None, iteration=iteration)
    found = page(run, node, Query(limit=rows))
    stage = node.partition("/")[2]
    if found.kind in TABLE_KINDS:
        columns = ["prompt_id", "row"]
        samples = [[s["prompt_id"], next(v for k, v in s.items() if k != "prompt_id")] for s in found.samples]
    else:
        columns = ["prompt_id", "prompt", "completion", "outcome", "value", "message", "policy"]
        samples = [[s[name] for name in columns] for s in found.samples]
    return SampleTable(iteration, stage, columns, [[_cell(value) for value in row] for row in samples])


def _cell(value: Any) -> str | float | int:
    if isinstance(value, int | float):
        return value
    if isinstance(value, list) and all(isinstance(m, dict) and "content" in m for m in value):
        value = "\n".join(f"{m['role']}: {m['content']}" for m in value)
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return clean(text)[:LONGEST_CELL]

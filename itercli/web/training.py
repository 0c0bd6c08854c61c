"""Training curves: what every optimizer step measured, over all iterations of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from itercli.report.stages import StageView
from itercli.training.step_log import STEPS, read_steps

FIRST = ("loss", "grad_norm", "lr")  # the others after them, by name
POINTS = 400  # of a curve; more than a chart is wide
COUNTS = frozenset({"step", "tokens"})  # of the step, not measures of it
Row = dict[str, Any]


def training_curves(views: Sequence[StageView]) -> dict[str, dict[str, list[list[float]]]]:
    """Stage that trains -> metric -> points ``[iteration, step over all iterations, value]``.

    Args:
        views: The stages of a run, in its order.
    """
    found: dict[str, dict[str, list[list[float]]]] = {}
    offset: dict[str, int] = {}
    for view in views:
        if view.place["kind"] != "model":
            continue
        _, _, stage = view.node.partition("/")
        steps = list(read_steps(view.entry.path / STEPS))
        for row in _thinned(steps):
            for name, value in row.items():
                if name not in COUNTS and isinstance(value, int | float) and math.isfinite(value):
                    point = [view.place["iteration"], offset.get(stage, 0) + row["step"], value]
                    found.setdefault(stage, {}).setdefault(name, []).append(point)
        offset[stage] = offset.get(stage, 0) + len(steps)
    return {stage: dict(sorted(metrics.items(), key=_order)) for stage, metrics in found.items()}


def training_groups(data: Row) -> list[Row]:
    """Curves of all runs of page data by stage: ``[{stage, metrics: {metric: {run: points}}}]``."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for run in data["runs"]:
        for stage, metrics in run["training"].items():
            for metric, points in metrics.items():
                groups.setdefault(stage, {}).setdefault(metric, {})[run["run"]["name"]] = points
    return [{"stage": stage, "metrics": metrics} for stage, metrics in groups.items()]


def _order(item: tuple[str, Any]) -> tuple[int, str]:
    name = item[0]
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)


def _thinned(steps: list[Row]) -> list[Row]:
    """The first, the last, and some evenly between."""
    if len(steps) <= POINTS:
        return steps
    return [steps[round(n * (len(steps) - 1) / (POINTS - 1))] for n in range(POINTS)]

"""From rows to models: how much of what was drawn is left at each step, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itercli.report.stages import StageView
from itercli.web.survey import Survey

Row = dict[str, Any]
ROWS = ("trajectories", "scores", "examples", "pairs", "dialogues", "episodes", "trees")


def yields(views: list[StageView], surveys: Mapping[str, Survey]) -> list[Row]:
    """What became of the rows on their way into each model, in the order of training.

    Returns:
        ``[{node, iteration, steps: [{node, stage, kind, rows, passed}]}]``; the last step is the
        training itself with the examples that it used. ``passed`` are rows that passed or were
        kept, None where a stage doesn't tell; ``rows`` is None for what isn't done.
    """
    by_node = {v.node: v for v in views}
    keys = {views_.place["key"]: s for node, s in surveys.items() if (views_ := by_node.get(node))}
    found = []
    for v in views:
        if v.place["kind"] != "model":
            continue
        steps = [_step(u, keys.get(u.place["key"])) for u in _upstream(v, views, by_node)]
        used = v.metrics.get("examples")
        steps.append({**_step(v, None), "rows": int(used) if isinstance(used, int | float) else None})
        found.append({"node": v.node, "iteration": v.place["iteration"], "steps": steps})
    return found


def _upstream(view: StageView, views: list[StageView], by_node: Mapping[str, StageView]) -> list[StageView]:
    """The stages with rows that a training's data went through, in running order."""
    todo, seen = [view.node], {view.node}
    while todo:
        for i in by_node[todo.pop()].place["needs"]:
            if i in by_node and i not in seen and by_node[i].place["kind"] != "model":
                seen.add(i)
                todo.append(i)
    return [v for v in views if v.node in seen - {view.node} and v.place["kind"] in ROWS]


def _step(view: StageView, found: Survey | None) -> Row:
    return {
        "node": view.node,
        "stage": view.node.partition("/")[2],
        "kind": view.place["kind"],
        "rows": view.rows if view.state == "done" else None,
        "passed": found.passed if found and not found.problem and view.state == "done" else None,
    }


def costs(views: list[StageView]) -> list[Row]:
    """Time and tokens of every finished stage, each artifact once.

    Returns:
        ``[{iteration, stage, uses, seconds, reused, drawn, trained}]``: tokens drawn from models,
        and tokens trained on; None where a stage doesn't count them.
    """
    found: list[Row] = []
    seen: set[str] = set()
    for v in views:
        if v.seconds is None or v.place["key"] in seen:
            continue
        seen.add(v.place["key"])
        trained = v.metrics.get("tokens") if v.place["kind"] == "model" else None
        found.append(
            {
                "iteration": v.place["iteration"],
                "stage": v.node.partition("/")[2],
                "uses": v.place["uses"],
                "seconds": v.seconds,
                "reused": v.reused,
                "drawn": v.counts.get("tokens"),
                "trained": int(trained) if isinstance(trained, int | float) else None,
            }
        )
    return found


def distributions(views: list[StageView], surveys: Mapping[str, Survey], bins: int = 24) -> list[Row]:
    """Histograms of scores and lengths by stage, iteration by iteration over the same bins.

    Returns:
        ``[{stage, what, unit, edges: [bins + 1], iterations: [{iteration, count, median, share: [bins]}]}]``.
    """
    import numpy as np

    from itercli.web.survey import UNITS

    groups: dict[tuple[str, str, str], dict[int, Any]] = {}
    for v in views:
        for what, values in surveys[v.node].values.items() if v.node in surveys else ():
            unit = UNITS[v.place["kind"]][what]
            stage = v.node.partition("/")[2]
            groups.setdefault((stage, what, unit), {})[v.place["iteration"]] = np.asarray(values)
    found: list[Row] = []
    for (stage, what, unit), series in groups.items():
        together = np.concatenate(list(series.values()))
        low, high = np.quantile(together, [0.002, 0.998])
        if not high > low:
            low, high = float(together.min()), float(together.max())
        if len(np.unique(together)) < 3:
            continue  # one value everywhere is no distribution, and a share is a metric
        if low == int(low) and high == int(high) and high - low < bins and (together % 1 == 0).all():
            edges = np.arange(low, high + 2) - 0.5  # a bin for each whole number
        else:
            edges = np.linspace(low, high, bins + 1)
        iterations = [
            {
                "iteration": i,
                "count": len(values),
                "median": float(np.median(values)),
                "share": (np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values))
                .round(4)
                .tolist(),
            }
            for i, values in sorted(series.items())
        ]
        if any(d["unit"] == unit and d["iterations"] == iterations for d in found):
            continue  # a stage that hands on what another one made
        found.append(
            {"stage": stage, "what": what, "unit": unit, "edges": edges.tolist(), "iterations": iterations}
        )
    return found

"""The metrics of page data as a page shows them: by stage, and the headline alone."""

from __future__ import annotations

from typing import Any

from itercli.report.tables import cluster_notes

OPEN = 12  # curves that are shown at once, those of other stages fold
Row = dict[str, Any]


def metric_groups(data: Row) -> list[Row]:
    """Metrics by stage, the headline's stage first.

    Returns:
        ``[{stage, metrics: {metric: {run: {iteration: value}}}, iterations, open, clusters}]``;
        `clusters` says what intervals are over, where that is not the prompts.
    """
    headlines = [h["metric"] for run in data["runs"] if (h := run["run"]["headline"])]
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for run in data["runs"]:
        for name, series in run["metrics"].items():
            stage, _, metric = name.partition(".")
            known = {i: v for i, v in series.items() if _known(v)}
            if known:
                groups.setdefault(stage, {}).setdefault(metric, {})[run["run"]["name"]] = known
    ordered = sorted(groups, key=lambda s: not any(h.partition(".")[0] == s for h in headlines))
    found: list[Row] = []
    shown = 0
    for stage in ordered:
        metrics = dict(sorted(groups[stage].items(), key=lambda m: f"{stage}.{m[0]}" not in headlines))
        iterations = sorted({int(i) for runs in metrics.values() for s in runs.values() for i in s})
        shown += len(metrics)
        found.append(
            {"stage": stage, "metrics": metrics, "iterations": iterations,
             "open": shown <= OPEN or not found, "clusters": _clusters(metrics)}
        )  # fmt: skip
    return found


def headline(run: Row) -> Row | None:
    """The headline metric at the start, at its best and at the end, with intervals; or None."""
    known = run["run"]["headline"]
    if not known:
        return None
    series = {int(i): v for i, v in run["metrics"].get(known["metric"], {}).items() if _known(v)}
    if not series:
        return None
    best = run["best"]["iteration"] if run["best"] else None
    first, last = min(series), max(series)
    places = [
        ("first", first),
        *([("best", best)] if best not in (None, first, last) else []),
        ("last", last),
    ]
    return {
        "metric": known["metric"],
        "best": best,
        "values": [
            {"what": what, "iteration": i, "value": series[i]}
            for what, i in {i: (what, i) for what, i in places}.values()
        ],
    }


def group_tables(run: Row) -> list[Row]:
    """Metrics by group of prompts, a table for each metric.

    Returns:
        ``[{metric, by, iterations, rows: [{group, prompts, values: [one an iteration]}]}]``.
    """
    found = []
    for stage, content in run["groups"].items():
        tables = {int(i): groups for i, groups in content["iterations"].items()}
        iterations = sorted(tables)
        names = dict.fromkeys(
            m for groups in tables.values() for values in groups.values() for m in values if m != "prompts"
        )
        groups = sorted({g for i in iterations for g in tables[i]})
        for name in names:
            rows = [
                {
                    "group": g,
                    "prompts": next(tables[i][g].get("prompts") for i in iterations if g in tables[i]),
                    "values": [tables[i].get(g, {}).get(name) for i in iterations],
                }
                for g in groups
            ]
            found.append(
                {"metric": f"{stage}.{name}", "by": content["by"], "iterations": iterations, "rows": rows}
            )
    return found


def _clusters(metrics: dict[str, dict[str, Any]]) -> str:
    values = (v for runs in metrics.values() for series in runs.values() for v in series.values())
    return "; ".join(n.partition(": ")[2] for n in cluster_notes(("", v) for v in values))


def _known(metric: Any) -> bool:
    return (metric.get("value") if isinstance(metric, dict) else metric) is not None

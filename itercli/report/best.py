"""Which iteration was best by the recipe's headline metric, and which models that were."""

from __future__ import annotations

from typing import Any

from itercli.recipe.plan import node_id
from itercli.report.numbers import number


def best_iteration(
    headline: str | None,
    metrics: dict[str, dict[int, Any]],
    models: list[dict[str, Any]],
    nodes: list[str],
) -> dict[str, Any] | None:
    """Content of `best` in `itercli.show/1`; None without a headline or before its first value.

    The last iteration is not always the best one. Higher is better, as for `stop:`, and of
    equal values the earliest counts.

    Args:
        headline: STAGE.METRIC.
        metrics: STAGE.METRIC -> iteration -> value; 0 is before the loop.
        models: The run's lineage.
        nodes: Ids of the run's stages, in running order.
    """
    if headline is None:
        return None
    stage = headline.partition(".")[0]
    known: dict[int, tuple[float, int]] = {}  # iteration -> value, place of the stage in the order
    for iteration, metric in metrics.get(headline, {}).items():
        value = metric["value"] if isinstance(metric, dict) else metric
        node = node_id("loop" if iteration else "before", iteration, stage)
        if value is not None and node in nodes:
            known[iteration] = (value, nodes.index(node))
    if not known:
        return None
    best = max(known, key=lambda i: (known[i][0], -i))
    value, at = known[best]
    # The stage may stand before the training or after it: what was made by then is what it saw.
    made = {m["role"]: m["version"] for m in models if m["made_by"] is None or m["made_by"] in nodes[:at]}
    paths = {m["version"]: m["path"] for m in models}
    return {
        "metric": headline,
        "iteration": best,
        "value": value,
        "models": {role: {"version": name, "path": paths[name]} for role, name in made.items()},
    }


def sentence(best: dict[str, Any]) -> str:
    """The best iteration in words."""
    where = f"iteration {best['iteration']}" if best["iteration"] else "the start"
    versions = ", ".join(model["version"] for model in best["models"].values())
    return f"{where}: {best['metric']} {number(best['value'])} of {versions}"

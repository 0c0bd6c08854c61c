"""One of the runs that are compared: its metrics, their rows and options, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from itercli.engine.runs import Run
from itercli.report.compare_config import flat
from itercli.report.compare_cost import cost
from itercli.report.compare_values import NodeValues, PromptValues
from itercli.report.details import config_of
from itercli.report.runs import summary
from itercli.report.stages import stage_views
from itercli.report.tables import by_iteration

At = int | str  # an iteration, "last" or "best"
MEASURED_BY = ("metrics", "scores", "trajectories", "episodes")


class Side:
    """One of the runs that are compared."""

    def __init__(self, run: Run, label: str) -> None:
        self.run = run
        self.label = label
        self.info = run.info
        self.config = config_of(run)
        self.metrics = by_iteration(run)
        self._values: dict[str, NodeValues] = {}

    @cached_property
    def nodes(self) -> dict[tuple[str, int], str]:
        """Stage with metrics and iteration -> node."""
        return {(line["stage"], line["iteration"]): line["node"] for line in self.run.metrics()}

    def known(self, metric: str) -> dict[int, float]:
        """Iteration -> value, where there is a finite one."""
        found = {i: number(v) for i, v in sorted(self.metrics.get(metric, {}).items())}
        return {i: v for i, v in found.items() if v is not None and math.isfinite(v)}

    def at(self, metric: str, at: At) -> int | None:
        """The iteration that is meant; None where the metric has no value there."""
        known = self.known(metric)
        if at == "last":
            return max(known, default=None)
        if at == "best":
            return max(known, key=lambda i: (known[i], -i), default=None)
        return int(at) if at in known else None

    def node_values(self, metric: str, iteration: int) -> NodeValues:
        """The rows behind a metric."""
        node = self.nodes[metric.partition(".")[0], iteration]
        return self._values.setdefault(node, NodeValues(self.run, node))

    def prompt_values(self, metric: str, iteration: int) -> PromptValues | None:
        """The metric prompt by prompt, where rows give it."""
        reported = self.metrics[metric][iteration]
        return self.node_values(metric, iteration).find(metric.partition(".")[2], reported)

    def measured(self, metric: str, iteration: int) -> dict[str, Any]:
        """Options of the stages that a metric comes from, but for the prompts."""
        nodes = self.info["nodes"]
        todo = [self.nodes[metric.partition(".")[0], iteration]]
        names: dict[str, Any] = {}
        while todo:
            scope, _, name = todo.pop().partition("/")
            node, stage = f"{scope}/{name}", name.partition(".")[0]
            scope = "loop" if scope.startswith("iteration-") else scope
            names[stage] = (self.config.get(scope) or {}).get(stage)
            todo += [i for i in nodes[node]["needs"] if i in nodes and nodes[i]["kind"] in MEASURED_BY]
        options = flat({stage: option for stage, option in names.items() if option})
        return {
            key: value for key, value in options.items() if key.split(".")[1] not in ("prompts", "metrics")
        }

    def to_json(
        self, headline: str | None, iteration: int | None, swept: Mapping[str, str]
    ) -> dict[str, Any]:
        """The run's entry in `itercli.compare/1`."""
        short = summary(self.run)
        shown = ("path", "recipe", "state", "iterations", "seconds", "error")
        known = self.known(headline) if headline else {}
        ends = {"first": min(known, default=None), "last": max(known, default=None)}
        ends["best"] = self.at(headline, "best") if headline else None
        return {
            "name": self.label,
            **{key: short[key] for key in shown},
            "seed": self.config.get("seed", 0),
            "swept": dict(swept),
            "iteration": iteration,
            "headline": {name: _ending(known, i) for name, i in ends.items()} if known else None,
            "cost": cost(stage_views(self.run, alive=short["state"] == "running")),
        }


def number(metric: Any) -> float | None:
    """The number of a metric with or without an interval."""
    return metric["value"] if isinstance(metric, dict) else metric


def _ending(known: Mapping[int, float], iteration: int | None) -> dict[str, Any] | None:
    return None if iteration is None else {"iteration": iteration, "value": known[iteration]}

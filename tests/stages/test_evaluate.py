"""`evaluate`: pass@k with intervals, by group, at one or several temperatures."""

from __future__ import annotations

import json
from typing import Any

from itercli.engine.runs import all_runs
from tests.conftest import Project


def evaluated(project: Project, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics and groups of the first evaluation."""
    project.run_toy(
        "iterations=1", "loop.evaluate.n=4", "loop.evaluate.metrics=[pass@1, pass@2, mean_score]", *overrides
    )
    run = all_runs(project.path / "runs")[0]
    entry = run.entry("iteration-01/evaluate")
    assert entry is not None
    assert entry.manifest is not None
    return entry.manifest["metrics"], json.loads((entry.path / "groups.json").read_text())


def test_metrics_have_intervals_overall_and_by_group(project: Project) -> None:
    metrics, groups = evaluated(project)
    assert set(metrics) == {"pass@1", "pass@2", "mean_score"}
    assert metrics["pass@1"]["low"] <= metrics["pass@1"]["value"] <= metrics["pass@1"]["high"]
    assert metrics["pass@1"]["value"] < metrics["pass@2"]["value"]
    assert metrics["pass@1"]["prompts"] == 8
    assert groups["by"] == "template"
    parts = groups["groups"]
    assert {g: v["prompts"] for g, v in parts.items()} == {"t0": 4, "t1": 4}
    mean = sum(v["pass@1"]["value"] for v in parts.values()) / 2
    assert abs(mean - metrics["pass@1"]["value"]) < 1e-9


def test_of_several_temperatures_the_best_counts_and_is_named(project: Project) -> None:
    metrics, _ = evaluated(project, "loop.evaluate.temperature=[0.2, 0.8]")
    both = {t: metrics[f"pass@1 T={t}"]["value"] for t in ("0.2", "0.8")}
    best = metrics["pass@1"]
    assert best["value"] == max(both.values())
    assert both[f"{best['temperature']:g}"] == best["value"]
    nodes = all_runs(project.path / "runs")[0].info["nodes"]
    assert {"iteration-01/evaluate.sample_t0", "iteration-01/evaluate.score_t1"} <= set(nodes)

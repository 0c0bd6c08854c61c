"""`evaluate`: pass@k with intervals, by group, at one or several temperatures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.runs import all_runs
from tests.conftest import Project
from tests.recipe.test_plan import errors, toy

TOY = Path(__file__).parents[1] / "toy"
MEASURING = [str(TOY / "toy_plugin.py"), str(TOY / "measures_plugin.py")]


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


def test_measures_of_the_scorer_are_metrics(project: Project) -> None:
    project.run_toy(
        f"plugins={json.dumps(MEASURING)}", "iterations=1", "headline=evaluate.words",
        "loop.evaluate.scorer=measuring", "loop.evaluate.metrics=[words, even, depth, rank]",
        "stop={stage: evaluate, metric: words, patience: 1}",
    )  # fmt: skip
    entry = all_runs(project.path / "runs")[0].entry("iteration-01/evaluate")
    assert entry is not None
    assert entry.manifest is not None
    metrics = entry.manifest["metrics"]
    assert 100 <= metrics["words"]["low"] < metrics["words"]["value"] < metrics["words"]["high"] < 200
    assert 0 < metrics["even"]["value"] < 1
    assert metrics["depth"]["missing"] == 2
    assert metrics["rank"] == {"value": None, "low": None, "high": None, "prompts": 0, "missing": 8}
    shown = " ".join(project.iter("show", "--groups").stdout.split())
    assert "rank -, 8 missing" in shown
    runs = project.iter("runs").stdout
    assert f"words {metrics['words']['value']:.1f}" in " ".join(runs.split())


def test_unknown_metrics_are_refused_with_the_nearest(project: Project) -> None:
    found = errors(
        project, plugins=MEASURING, loop__evaluate__scorer="measuring", loop__evaluate__metrics=["wrds"],
        headline=None,
    )["loop.evaluate.metrics"]  # fmt: skip
    assert "scorer measuring has no metric 'wrds'" in found
    assert "pass@K (K = 1, 2, ...), mean_score, words, even, depth, rank" in found
    assert "did you mean: words" in found
    # A measure of one scorer is none of another.
    assert "loop.evaluate.metrics" in errors(project, loop__evaluate__metrics=["words"], headline=None)
    plan = toy(
        project, plugins=MEASURING, loop__evaluate__scorer={"name": "measuring"},
        loop__evaluate__metrics=["words", "mean_score"], headline="evaluate.words",
    )  # fmt: skip
    assert plan.nodes["iteration-01/evaluate"].kind == "metrics"


def test_a_misspelt_scorer_is_reported_once(project: Project) -> None:
    changes = {"loop__evaluate__scorer": "tooy", "loop__evaluate__metrics": ["words"]}
    assert set(errors(project, headline=None, **changes)) == {"loop.evaluate.scorer"}


@pytest.mark.parametrize("metrics", [["words"], ["pass@1", "words"]])
def test_several_temperatures_need_a_metric_with_a_best(project: Project, metrics: list[str]) -> None:
    changes: dict[str, Any] = {"plugins": MEASURING, "headline": None, "loop__evaluate__scorer": "measuring"}
    changes |= {"loop__evaluate__metrics": metrics, "loop__evaluate__temperature": [0.2, 0.8]}
    assert "means nothing for 'words'" in errors(project, **changes)["loop.evaluate.temperature"]
    changes["loop__evaluate__metrics"] = ["pass@1", "mean_score"]
    assert "iteration-01/evaluate.sample_t1" in toy(project, **changes).nodes

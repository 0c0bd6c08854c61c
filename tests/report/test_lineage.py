"""Lineage: models that are trained before the loop, and every kind of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itercli.engine.runs import Run
from itercli.report.lineage import lineage, sentence
from itercli.report.stages import stage_views


def versions(
    path: Path, nodes: dict[str, tuple[str, dict[str, str], list[str]]], config: dict[str, Any]
) -> dict[str, Any]:
    """Lineage of a run with these stages: node -> (kind, models, needs)."""
    run = Run(path / "run")
    run.path.mkdir()
    places = {
        node: {
            "kind": kind, "key": node.replace("/", "-"), "uses": kind, "models": models, "needs": needs,
            "iteration": int(node[10:12]) if node.startswith("iteration-") else 0,
        }
        for node, (kind, models, needs) in nodes.items()
    }  # fmt: skip
    start = {"path": "m", "digest": "sha256:0", "source": "local"}
    run.save({"state": "failed", "nodes": places, "roles": {"policy": start, "reward": start}})
    return {v["version"]: v for v in lineage(run.info, config, stage_views(run, alive=False))}


def test_a_role_that_is_trained_before_the_loop_has_a_version_of_its_own(tmp_path: Path) -> None:
    nodes = {
        "before/labels": ("pairs", {}, []),
        "before/judge": ("model", {"start": "reward@0"}, ["before/labels"]),
        "iteration-01/score": ("scores", {"reward": "reward@0.1"}, []),
        "iteration-01/train": ("model", {"start": "policy@0"}, ["iteration-01/score"]),
        "iteration-01/again": ("model", {"start": "policy@1"}, ["iteration-01/score"]),
    }
    found = versions(tmp_path, nodes, {"before": {"judge": {"role": "reward"}}})
    assert list(found) == ["policy@0", "reward@0", "reward@0.1", "policy@1", "policy@1.1"]
    assert found["reward@0"]["made_by"] is None
    assert found["reward@0.1"]["made_by"] == "before/judge"
    assert found["policy@1.1"]["made_by"] == "iteration-01/again"


def test_dialogues_are_among_the_examples_of_a_model(tmp_path: Path) -> None:
    nodes = {
        "iteration-01/act": ("episodes", {"policy": "policy@0"}, []),
        "iteration-01/splice": ("dialogues", {}, ["iteration-01/act"]),
        "iteration-01/pairs": ("pairs", {}, ["iteration-01/act"]),
        "iteration-01/train": ("model", {"start": "policy@0"}, ["iteration-01/splice", "iteration-01/pairs"]),
    }
    model = versions(tmp_path, nodes, {})["policy@1"]
    assert [e["node"] for e in model["examples"]] == ["iteration-01/splice", "iteration-01/pairs"]
    assert model["drawn"] == [{"node": "iteration-01/act", "models": ["policy@0"]}]
    assert "on iteration-01/splice and iteration-01/pairs drawn in iteration-01/act by policy@0" in sentence(
        model
    )

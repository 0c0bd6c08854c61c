"""Finished runs, written by hand: an evaluation of prompts with known verdicts in each iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from itercli.engine.rows import write_rows
from itercli.engine.runs import Run
from itercli.engine.store import ROWS
from itercli.recipe.plan import node_id
from itercli.recipe.seeds import digest
from itercli.records import Message, Prompt, Record, Score
from itercli.report.runs import summary
from itercli.stages.summary import prompt_values
from itercli.verifiers.passk import bootstrap_mean

START = {"path": "m", "digest": "sha256:0", "source": "local"}
Verdicts = Mapping[str, Sequence[bool]]


def finished(
    root: Path,
    name: str,
    iterations: Mapping[int, Verdicts],
    *,
    metrics: Sequence[str] = ("pass@1",),
    stage: str = "evaluate",
    recipe: str = "hand",
    config: Mapping[str, Any] | None = None,
    task: str = "task {}",
) -> Run:
    """A run whose evaluations gave these verdicts: iteration -> prompt id -> one a completion.

    Args:
        task: What a prompt says; runs with the same ids and another text ask something else.
    """
    run = Run(root / name)
    run.path.mkdir(parents=True)
    evaluate = {"uses": "evaluate", "role": "policy", "prompts": {"name": "hand"}, "n": 1}
    whole = {"name": recipe, "loop": {stage: evaluate}, "seed": 0, **(config or {})}
    (run.path / "config.yaml").write_text(yaml.safe_dump(whole))
    nodes: dict[str, Any] = {}
    info = {"recipe": recipe, "state": "finished", "seconds": 5.0, "headline": f"{stage}.{metrics[0]}"}
    run.save({**info, "nodes": nodes, "roles": {"policy": START}})
    lines = []
    for i, verdicts in iterations.items():
        place = node_id("loop" if i else "before", i, stage)
        prompts = [Prompt(id=p, messages=[Message(role="user", content=task.format(p))]) for p in verdicts]
        asked = put(run, nodes, f"{place}.prompts", "prompts", i, [], prompts)
        scores = [
            Score(prompt_id=p, index=n, completion="", policy=f"policy@{i}", value=float(v), passed=v)
            for p, given in verdicts.items()
            for n, v in enumerate(given)
        ]
        counts = {"tokens": 10 * len(scores)}
        scored = put(run, nodes, f"{place}.score", "scores", i, [asked], scores, counts=counts)
        result = {}
        for metric in metrics:
            values = prompt_values("", metric, {p: [float(v) for v in of] for p, of in verdicts.items()})
            mean = bootstrap_mean(v for v in values.values() if v is not None)
            result[metric] = dict(zip(("value", "low", "high"), mean, strict=True)) | {"prompts": len(values)}
        put(run, nodes, place, "metrics", i, [scored, asked], None, metrics=result)
        lines.append({"node": place, "stage": stage, "iteration": i, "metrics": result})
    run.save({**info, "nodes": nodes, "iterations": max(iterations), "roles": run.info["roles"]})
    for line in lines:
        run.metric(**line)
    assert summary(run)["state"] == "finished"
    return run


def put(
    run: Run,
    nodes: dict[str, Any],
    node: str,
    kind: str,
    iteration: int,
    needs: list[str],
    rows: Sequence[Record] | None,
    *,
    counts: dict[str, int] | None = None,
    metrics: dict[str, Any] | None = None,
) -> str:
    """Put a finished artifact into the store, and its node into the plan."""
    key = digest([kind, [row.model_dump() for row in rows or []], needs and node, run.name if needs else ""])
    entry = run.store.entry(kind, key)
    nodes[node] = {
        "kind": kind,
        "key": key,
        "uses": kind,
        "iteration": iteration,
        "needs": needs,
        "models": {},
    }
    entry.path.mkdir(parents=True, exist_ok=True)
    if rows is not None:
        write_rows(entry.path / ROWS, type(rows[0]), rows)
    prompts = [
        {"id": i, "key": nodes[i]["key"], "digest": ""} for i in needs if nodes[i]["kind"] == "prompts"
    ]
    entry.finish(
        ingredients={"options": {}}, inputs={"prompts": prompts}, models={}, rows=len(rows or []),
        record=type(rows[0]).__name__ if rows else None, counts=counts or {}, metrics=metrics or {},
        seconds=1.0, work={"peak_memory": 1000},
    )  # fmt: skip
    run.event("stage_finished", node=node, key=key)
    return node

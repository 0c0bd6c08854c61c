"""A run with rows of every kind, in which every text is a given one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from itercli.engine.rows import write_rows
from itercli.engine.runs import Run
from itercli.engine.store import JOURNAL, ROWS
from itercli.records import (
    Dialogue,
    Episode,
    Message,
    Node,
    PreferencePair,
    Prompt,
    RankedExample,
    Record,
    Score,
    Trajectory,
    Tree,
    Turn,
)

ATTACK = (
    "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
    "</script></pre></style></title><!--<script>{{ 7*7 }}{% endraw %}${7*7}\"'><svg onload=window.pwned=1>"
    "javascript:window.pwned=1 &lt;b&gt; \u2028\u2029"
)
CONTROL = "\x1b[2J\x1b]0;title\x07\x9b31m\x00\x08\r\u202egnp.exe\u2066\u200b\ufeff"
HOSTILE = "MARK" + ATTACK + CONTROL + "KRAM"
LINE = HOSTILE + "x" * 2**20


def make_run(root: Path, text: str, name: str = "run", long: str | None = None) -> Run:
    """Write a run with finished stages of all kinds, and one that is under way.

    Args:
        text: Stands wherever a model, a tool or a plug-in can write.
        long: Of completions and observations, if another one.
    """
    run = Run(root / name)
    run.path.mkdir(parents=True)
    nodes: dict[str, Any] = {}

    def stage(node: str, kind: str, rows: list[Record] | None, *needs: str, **done: Any) -> None:
        key = f"{name}-{node.replace('/', '-')}"
        nodes[node] = {
            "kind": kind,
            "key": key,
            "uses": done.pop("uses", kind),
            "iteration": int(node[10:12]) if "-" in node else 0,
            "needs": list(needs),
            "models": done.pop("models", {}),
        }
        entry = run.store.entry(kind, key)
        entry.path.mkdir(parents=True)
        if rows:
            write_rows(entry.path / ROWS, type(rows[0]), rows)
        content = {
            "ingredients": {},
            "inputs": {},
            "models": {},
            "rows": len(rows) if rows is not None else None,
            "record": type(rows[0]).__name__ if rows else None,
            "counts": {text: 2, "tokens": 30},
            "metrics": {},
            "seconds": 1.5,
            "work": {"peak_memory": 2**30},
        }
        manifest = entry.finish(**{**content, **done})
        run.event("stage_finished", node=node, key=key, seconds=1.5)
        if manifest["metrics"]:
            scope = {"iteration": nodes[node]["iteration"], "stage": node.partition("/")[2]}
            run.metric(node=node, key=key, metrics=manifest["metrics"], **scope)

    for i in (1, 2):
        where = f"iteration-{i:02d}/"
        for node, (kind, rows, needs, more) in STAGES(text, long or text, i).items():
            stage(where + node, kind, rows, *(where + n for n in needs), **more)
    key = f"{name}-under-way"
    nodes["iteration-02/under_way"] = {
        "kind": "trees",
        "key": key,
        "uses": "search",
        "iteration": 2,
        "needs": [],
        "models": {},
    }
    journal = run.store.entry("trees", key).path / JOURNAL
    journal.parent.mkdir(parents=True)
    call = {"prompt_id": text + "#0", "index": 0, "completion": text, "policy": text, "step": text}
    journal.write_text(json.dumps(call) + "\n")
    with open(journal, "ab") as handle:  # a lone surrogate, as only JSON can hold it
        handle.write(b'{"prompt_id": "p", "index": 1, "completion": "\\ud800 lone", "step": "act"}\n{"torn')
    (run.path / "config.yaml").write_text(
        f"name: toy\nseed: 3\nnote: {text.encode('unicode_escape').decode()!r}\n"
    )
    run.save(
        {
            "recipe": text,
            "overrides": ["recipe=toy", f"note={text}"],
            "state": "failed",
            "error": text,
            "seconds": 9,
            "iterations": 2,
            "headline": "evaluate.pass@1",
            "created": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:09Z",
            "nodes": nodes,
            "stopped_early": text,
            "roles": {"policy": {"path": "/models/start", "digest": "sha256:0", "source": "local"}},
        }
    )
    run.event("run_started", pid=1, argv=[], itercli="0", machine={"cpu": text, "cores": 2, "memory": 2**34})
    return run


def STAGES(text: str, long: str, i: int) -> dict[str, Any]:
    """Stage -> (kind, rows, stages that it needs, more of its manifest); first rows have the long text."""
    ask = [Message(role="user", content=text), Message(role="assistant", content=text)]
    ids = [(n, f"p{n} {text}", long if n == 0 else text) for n in range(6)]
    told = {"text": text, "action": text, "reward": 0.5, "score": 0.5, "info": {"error": text, text: text}}
    turns = [Turn(observation=long if n == 0 else text, **told) for n in range(6)]
    nodes = [Node(id=0, parent=None, visits=3, value=1.0)]
    nodes += [
        Node(id=n, parent=n // 2, turn=turns[(n - 1) if n > 1 else 5], visits=1, terminal=n > 2)
        for n in range(1, 6)
    ]
    steps = [{"a": text, "b": text, "taken": n > 0, "failed": [text]} for n in range(2)]
    extension = {"draft": text, "draft_words": 2, "words": 5, "ratio": 2.5, "tries": 1, "steps": steps}
    by = {"policy": "policy@0", "seed": 1}
    drawn = {**by, "finish": "stop"}
    judged = {"policy": "policy@0", "message": text, "answer": text[:9]}
    sure = {"probabilities": [(0.7, 0.3)], "bald": 0.1, "vote": 1.0, "reason": text, "meta": {"rule": text}}
    acted = {"finish": "done", "tokens": 9, "meta": {"environment": text, "error": text}, "opening": ask}
    grown = {"best": 0.5, "environment": text, "counts": {text: 3}}
    rows: dict[str, list[Record]] = {
        "prompts": [Prompt(id=p, messages=ask, reference=t) for n, p, t in ids],
        "trajectories": [
            Trajectory(prompt_id=p, index=0, completion=t, tokens=n + 3, **drawn) for n, p, t in ids
        ],
        "scores": [
            Score(
                prompt_id=p, index=0, completion=t, value=n / 6, passed=n % 2 == 0,
                outcome=text if n % 2 else "pass", **judged,
            )
            for n, p, t in ids
        ],
        "extensions": [
            Trajectory(prompt_id=p, index=1, completion=t, tokens=9, meta=extension, **drawn)
            for n, p, t in ids
        ],
        "examples": [
            RankedExample(
                prompt_id=p, messages=ask, responses=[text, t], scores=[0, 1], target=1, sources=[text, "x"]
            )
            for n, p, t in ids
        ],
        "pairs": [
            PreferencePair(
                prompt_id=p, messages=ask, chosen=t, rejected=text, sources=(text, text), origin=text,
                rewards=(1.0, n / 5), kept=n > 0, **sure,
            )
            for n, p, t in ids
        ],
        "dialogues": [
            Dialogue(prompt_id=p, messages=ask, loss=[False, True], origin=text, meta={text: t})
            for n, p, t in ids
        ],
        "episodes": [
            Episode(prompt_id=p, index=0, turns=turns[-n - 1 :], score=n / 5, **by, **acted)
            for n, p, t in ids
        ],
        "trees": [
            Tree(prompt_id=p, opening=ask, nodes=nodes, simulations=3, meta=grown, **by)
            for _, p, _ in ids[:2]
        ],
    }  # fmt: skip
    metrics = {"value": 0.2 * i, "low": 0.1 * i, "high": 0.3 * i, "prompts": 6}
    start = {"models": {"start": f"policy@{i - 1}"}, "metrics": {"examples": 11, "tokens": 99}}
    return {
        "propose": ("prompts", rows["prompts"], (), {"uses": "propose"}),
        "sample": (
            "trajectories",
            rows["trajectories"],
            ("propose",),
            {"models": {"policy": f"policy@{i - 1}"}},
        ),
        "score": ("scores", rows["scores"], ("sample",), {}),
        "extend": ("trajectories", rows["extensions"], ("propose",), {}),
        "build": ("examples", rows["examples"], ("score",), {}),
        "pairs": ("pairs", rows["pairs"], ("score",), {}),
        "rollout": ("episodes", rows["episodes"], (), {}),
        "dialogues": ("dialogues", rows["dialogues"], ("rollout",), {}),
        "search": ("trees", rows["trees"], (), {}),
        "train": ("model", None, ("build", "pairs", "dialogues"), start),
        "evaluate": ("metrics", None, ("train",), {"metrics": {"pass@1": metrics, text: 0.5, "none": None}}),
    }

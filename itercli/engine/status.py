"""What a plan means on this disk: run, reuse or resume, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from itercli.engine.journal import count_rows
from itercli.engine.runs import Run, all_runs
from itercli.engine.store import CHECKPOINTS, JOURNAL, Entry, Store
from itercli.recipe.plan import Node, Plan

Action = Literal["run", "reuse", "resume"]


@dataclass(frozen=True, slots=True)
class Status:
    """What will happen with a node.

    Attributes:
        unfit: Identity of the manifest of an artifact that is there but broken or stale; that one is
            set aside before running.
    """

    action: Action
    reason: str
    unfit: str = ""
    rows: int | None = None


def statuses(plan: Plan, store: Store, previous: dict[str, str] | None = None) -> dict[str, Status]:
    """Status of every node.

    Args:
        previous: Node id -> key when this run (or another of the recipe) was last planned, to
            say what changed.
    """
    found: dict[str, Status] = {}
    first: dict[str, str] = {}
    settled: set[str] = set()
    for node in plan.nodes.values():
        twin = first.setdefault(node.key, node.id)
        if twin != node.id and found[twin].action != "reuse":
            found[node.id] = Status("reuse", f"the same as {twin}")
        else:
            found[node.id] = status_of(node, plan, store, settled, previous)
        if found[node.id].action == "reuse":
            settled.add(node.id)
    # Hashing big weights takes seconds: only those that a stage is about to use. What has to be made
    # again uses others in its turn.
    checked: set[str] = set()
    while True:
        used = {i for n in plan.nodes.values() if found[n.id].action != "reuse" for i in n.needs}
        due = [i for i in plan.nodes if i in used - checked and found[i].action == "reuse"]
        if not due:
            return found
        checked.update(due)
        for i in due:
            entry = store.entry(plan.nodes[i].kind, plan.nodes[i].key)
            manifest = entry.manifest
            if manifest and (reason := entry.missing_model()):
                found[i] = Status("run", f"{reason}, and a stage needs it", unfit=entry.identity)
            elif manifest and (reason := entry.damage(manifest, thorough=True)):
                found[i] = Status("run", f"artifact is damaged: {reason}", unfit=entry.identity)


def latest_keys(plan: Plan, run: Run) -> dict[str, str]:
    """Node -> key as this run was last planned, else as the recipe's newest run was."""
    candidates = [run, *(r for r in all_runs(run.root) if r.info.get("recipe") == plan.recipe.config.name)]
    for candidate in candidates:
        nodes = candidate.info.get("nodes")
        if nodes:
            return {i: place["key"] for i, place in nodes.items()}
    return {}


def status_of(
    node: Node, plan: Plan, store: Store, settled: Collection[str], previous: dict[str, str] | None = None
) -> Status:
    """Status of one node.

    Args:
        settled: Ids of the nodes whose artifacts stay as they are.
        previous: See `statuses`.
    """
    entry = store.entry(node.kind, node.key)
    if reason := entry.broken:
        return Status("run", f"artifact is damaged: {reason}", unfit=entry.identity)
    manifest = entry.manifest
    if manifest is not None:
        if reason := entry.damage(manifest):
            return Status("run", f"artifact is damaged: {reason}", unfit=entry.identity)
        if reason := _stale(node, plan, store, settled, manifest):
            return Status("run", reason, unfit=entry.identity)
        return Status("reuse", f"finished {manifest['finished']}", rows=manifest["rows"])
    if entry.started:
        return Status("resume", _left(entry))
    old = (previous or {}).get(node.id)
    if old is not None and old != node.key:
        before = store.entry(node.kind, old).manifest
        if before is not None:
            return Status("run", changed(before["ingredients"], node.ingredients))
    waiting = [i for i in node.needs if i not in settled]
    return Status("run", f"after {waiting[0]}" if waiting else "not done yet")


def _stale(node: Node, plan: Plan, store: Store, settled: Collection[str], manifest: dict[str, Any]) -> str:
    """Whether an input or model was made again since, with another content (same key, other bytes)."""
    used: list[tuple[str, dict[str, str]]] = []
    for slot, ids in node.inputs.items():
        used += zip(ids, manifest["inputs"].get(slot, []), strict=False)
    models = manifest.get("models", {})
    used += [(use.node, models[slot]) for slot, use in node.models.items() if use.node and slot in models]
    for i, old in used:
        current = store.entry(plan.nodes[i].kind, plan.nodes[i].key).manifest
        if current is not None and i in settled and current["digest"] != old["digest"]:
            return f"{i} was made again with other content"
    return ""


def _left(entry: Entry) -> str:
    steps = sorted(
        int(p.name.split("-")[1]) for p in entry.path.glob(f"{CHECKPOINTS}/step-*") if p.name[5:].isdigit()
    )
    if steps:
        return f"interrupted; a checkpoint of step {steps[-1]} is there"
    return f"interrupted; {count_rows(entry.path / JOURNAL)} rows are there"


def changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The first difference between two sets of key ingredients, in words."""
    for part, name in (("options", "option"), ("fingerprint", "data or tool"), ("seed", "seed")):
        a, b = old.get(part), new.get(part)
        if a != b:
            if isinstance(a, dict) and isinstance(b, dict):
                path, x, y = _first_difference(a, b)
                return f"{name} {path} changed: {x!r} -> {y!r}"
            return f"{name} changed: {a!r} -> {b!r}"
    for slot, keys in new.get("inputs", {}).items():
        if old.get("inputs", {}).get(slot) != keys:
            return f"input {slot!r} changed"
    for slot, model in new.get("models", {}).items():
        if old.get("models", {}).get(slot) != model:
            return f"model {model['version']} changed"
    return "the code changed"


def _first_difference(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> tuple[str, Any, Any]:
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if x != y:
            if isinstance(x, dict) and isinstance(y, dict):
                return _first_difference(x, y, f"{prefix}{key}.")
            return f"{prefix}{key}", x, y
    return prefix.rstrip("."), a, b

"""Which data and which model version made which model."""

from __future__ import annotations

from collections import Counter
from typing import Any

from itercli.engine.shapes import Layout
from itercli.engine.store import MODEL
from itercli.report.stages import StageView


def lineage(info: dict[str, Any], config: dict[str, Any], views: list[StageView]) -> list[dict[str, Any]]:
    """Every model version of a run, in the order of training.

    Args:
        info: Content of run.json.
        config: The resolved recipe.
        views: The run's stages.

    Returns:
        One entry a version, as documented for `itercli.show/1`.
    """
    by_node = {v.node: v for v in views}
    versions: list[dict[str, Any]] = [
        {"version": f"{role}@0", "role": role, "state": "done", "digest": model.get("digest"),
         "path": model.get("path"), "removed": False, "made_by": None, "models": {}, "kept": None,
         "examples": [], "drawn": []}
        for role, model in info.get("roles", {}).items()
    ]  # fmt: skip
    taken = Counter(v["version"] for v in versions)  # one that is trained before the loop: reward@0.1
    for view in views:
        if view.place["kind"] != "model":
            continue
        role = _role(view, config)
        label = f"{role}@{view.place['iteration']}"
        # Trained twice in one iteration: policy@1, policy@1.1, as the planner counts them.
        name = f"{label}.{taken[label]}" if taken[label] else label
        taken[label] += 1
        layout = view.entry.json(MODEL, Layout) or {}
        manifest = view.entry.manifest or {}
        fed = [by_node[i] for i in view.place["needs"] if i in by_node]
        examples = [v for v in fed if v.place["kind"] in ("examples", "pairs", "dialogues")]
        drawn = dict.fromkeys(i for e in examples for i in _drawn(e.node, by_node))
        place = layout.get("adapter") or layout.get("base")
        removed = bool(view.entry.missing_model())
        kept = layout.get("digest") is not None  # no examples: the model it started from
        versions.append(
            {
                "version": name,
                "role": role,
                "state": view.state,
                "digest": manifest.get("digest"),
                "path": str(view.entry.path.parents[1] / place) if place and not removed else None,
                "removed": removed,
                "made_by": view.node,
                "models": view.place["models"],
                "kept": view.place["models"].get("start") if kept else None,
                "examples": [
                    {"node": e.node, "rows": e.rows if e.state == "done" else None} for e in examples
                ],
                "drawn": [
                    {"node": i, "models": sorted(set(by_node[i].place["models"].values()))} for i in drawn
                ],
            }
        )
    return versions


def sentence(version: dict[str, Any]) -> str:
    """One version's origin in words."""
    if version["made_by"] is None:
        return f"start model, {version['path']}"
    if version["kept"]:
        return f"same as {version['kept']}: {version['made_by']} had no examples"
    data = " and ".join(
        f"{e['node']}" + (f" ({e['rows']} examples)" if e["rows"] is not None else "")
        for e in version["examples"]
    )
    drawn = " and ".join(
        d["node"] + (f" by {', '.join(d['models'])}" if d["models"] else "") for d in version["drawn"]
    )
    start = version["models"].get("start")
    others = [f"{slot} {label}" for slot, label in version["models"].items() if slot != "start"]
    done = version["state"] == "done"
    parts = [
        ("trained" if done else f"to be trained ({version['state']})") + (f" from {start}" if start else ""),
        f"on {data}" if data else "",
        f"drawn in {drawn}" if drawn else "",
        f"with {', '.join(others)}" if others else "",
    ]
    return " ".join(p for p in parts if p) + ("; files removed by `iter clean`" if version["removed"] else "")


def _role(view: StageView, config: dict[str, Any]) -> str:
    """The role of which a stage makes a version: what the recipe says, else what it starts from."""
    folder, _, name = view.node.partition("/")
    scope = "loop" if folder.startswith("iteration-") else folder
    stage = (config.get(scope) or {}).get(name)
    if isinstance(stage, dict) and stage.get("role"):
        return str(stage["role"])
    models = view.place["models"]
    label = models.get("start") or next(iter(models.values()), "model@")
    return str(label).partition("@")[0]


def _drawn(node: str, by_node: dict[str, StageView]) -> list[str]:
    """The sampling stages whose completions went into a stage; the source's prompts if none did."""
    seen: list[str] = []
    prompts: list[str] = []
    todo = [node]
    visited = set(todo)
    while todo:
        for i in by_node[todo.pop(0)].place["needs"]:
            if i in visited or i not in by_node:
                continue
            visited.add(i)
            kind = by_node[i].place["kind"]
            if kind in ("trajectories", "episodes", "trees"):
                seen.append(i)
            elif kind == "prompts":
                prompts.append(i)
            elif kind != "model":
                todo.append(i)
    return seen or prompts

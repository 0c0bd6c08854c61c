"""The stages of a run: state, rows, counts, time, and which run made them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from itercli.engine.checked import tell
from itercli.engine.journal import count_rows
from itercli.engine.runs import Run, all_runs
from itercli.engine.store import CHECKPOINTS, JOURNAL, Entry, removed_files

REMOVED = "model removed"  # by `iter clean --keep-last`
SHOWN = ["node", "state", "rows", "total", "counts", "metrics", "seconds", "made_by", "reused", "note"]


@dataclass(frozen=True, slots=True)
class StageView:
    """What is known of one stage of a run.

    Attributes:
        state: done, running, failed, cut off, damaged or waiting.
        rows: Rows of the artifact, or of the journal while unfinished.
        total: Rows there will be, where the stage has said so.
        made_by: Name of the run that made it; None while unfinished or where that run is gone.
        reused: Whether it was made by another run.
        note: What else is known of an unfinished stage.
    """

    node: str
    place: dict[str, Any]
    entry: Entry
    state: str
    rows: int | None = None
    total: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    made_by: str | None = None
    reused: bool = False
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The stage's entry in `itercli.show/1`."""
        return {
            **{name: getattr(self, name) for name in SHOWN},
            **{name: self.place[name] for name in ("uses", "kind", "key", "iteration", "models")},
            "path": str(self.entry.path),
        }


def stage_views(run: Run, *, alive: bool) -> list[StageView]:
    """All stages of a run, in running order.

    Args:
        alive: Whether a process is running the run.
    """
    last: dict[str, dict[str, Any]] = {}
    here: set[str] = set()
    for event in run.events():
        kind, node = event.get("event", ""), event.get("node")
        if node is None:
            continue
        # A stage that another process finished while this one waited is not ours.
        if kind == "stage_finished" or (kind == "stage_started" and "key" in event):
            here.add(event["key"])
        elif kind == "waiting" and node in last:
            here.discard(last[node].get("key", ""))
        if kind in ("stage_started", "stage_finished", "stage_failed", "stage_stopped", "worker_died"):
            last[node] = event
    makers = _Makers(run)
    return [
        _view(run, node, place, last.get(node, {}), place["key"] in here, alive, makers)
        for node, place in run.info.get("nodes", {}).items()
    ]


def seconds_by_kind(views: list[StageView]) -> dict[str, dict[str, float]]:
    """Seconds of finished stages by what they use: made in this run, and saved by reuse.

    The parts of a stage stand under its name, ``evaluate.sample``. Stages run beside each
    other, so the sum can be more than the time that has passed.
    """
    times: dict[str, dict[str, float]] = {}
    uses = {v.node: v.place["uses"] for v in views}
    counted: set[str] = set()
    for v in views:
        key = v.place["key"]
        if v.seconds is None or key in counted:  # every iteration may evaluate on the same prompts
            continue
        counted.add(key)
        parent = uses.get(v.node.rpartition(".")[0])
        kind = f"{parent}.{v.place['uses']}" if parent else v.place["uses"]
        slot = times.setdefault(kind, {"spent": 0.0, "reused": 0.0})
        slot["reused" if v.reused else "spent"] += v.seconds
    return {k: {n: round(s, 3) for n, s in v.items()} for k, v in times.items()}


def group_metrics(views: list[StageView]) -> dict[str, dict[str, Any]]:
    """Per-group metrics: stage name -> {"by", "iterations": {iteration: {group: {metric: value}}}}."""
    found: dict[str, dict[str, Any]] = {}
    for v in views:
        content = v.entry.json("groups.json") if v.place["kind"] == "metrics" else None
        if v.state != "done" or not content or not content.get("groups"):
            continue
        stage = found.setdefault(v.node.partition("/")[2], {"by": content["by"], "iterations": {}})
        stage["iterations"][v.place["iteration"]] = content["groups"]
    return found


class _Makers:
    """Finds which other run made an artifact, reading other runs' events only if asked."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._by_key: dict[str, str] | None = None

    def find(self, key: str) -> str | None:
        if self._by_key is None:
            self._by_key = {}
            for other in all_runs(self._run.root):
                if other.name != self._run.name:
                    for event in other.events():
                        if event.get("event") == "stage_finished":
                            self._by_key[event["key"]] = other.name
        return self._by_key.get(key)


def _view(
    run: Run, node: str, place: dict[str, Any], last: dict[str, Any], here: bool, alive: bool, makers: _Makers
) -> StageView:
    entry = run.store.entry(place["kind"], place["key"])
    manifest = entry.manifest
    if manifest is None and (broken := entry.broken):
        return StageView(node, place, entry, "damaged", note=broken)
    if manifest is not None:
        if broken := _damage(entry, manifest):
            what = f"{entry.path} ({node} of {run.name}) is damaged: {broken}"
            tell(f"{what}; running the recipe again makes it again")
        return StageView(
            node,
            place,
            entry,
            "damaged" if broken else "done",
            rows=manifest["rows"],
            total=manifest["rows"],
            counts=dict(Counter(manifest["counts"]).most_common()),
            metrics=manifest["metrics"],
            seconds=manifest["seconds"],
            made_by=run.name if here else makers.find(place["key"]),
            reused=not here,
            note=broken or (REMOVED if removed_files(manifest) else ""),
        )
    current = last.get("key", place["key"]) == place["key"]
    rows = count_rows(entry.path / JOURNAL) or None
    steps = [int(p.name[5:]) for p in entry.path.glob(f"{CHECKPOINTS}/step-*") if p.name[5:].isdigit()]
    note = f"checkpoint of step {max(steps)}" if steps else ""
    event = last.get("event") if current else None
    if event == "stage_failed" or (event == "worker_died" and not alive):
        state = "failed"
    elif alive and event == "stage_started":
        state = "running"
    else:
        state = "cut off" if rows or steps or event else "waiting"
    return StageView(node, place, entry, state, rows=rows, total=entry.total, note=note)


def _damage(entry: Entry, manifest: dict[str, Any]) -> str:
    """Missing files and wrong sizes; checksums are for `iter plan`, they take time."""
    gone = removed_files(manifest)
    for name, info in manifest["files"].items():
        path = entry.path / name
        if name in gone:
            continue
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != info["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {info['size']}"
    return ""

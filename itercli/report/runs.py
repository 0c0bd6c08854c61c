"""What a run's folder says about the run: state, progress, headline metric, time."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from itercli.engine.runs import Run, all_runs, find_run
from itercli.engine.store import MANIFEST
from itercli.recipe.errors import nearest
from itercli.report.tables import by_iteration
from itercli.report.text import first_line

STATE_STYLES = {"finished": "green", "running": "cyan", "interrupted": "yellow"}
STATE_STYLES |= {"failed": "red", "died": "red", "damaged": "red"}


def lookup(root: Path, name: str | None) -> Run:
    """`find_run` with the nearest name in its error.

    Raises:
        LookupError: No such run, or several; the message lists what there is.
    """
    try:
        return find_run(root, name)
    except LookupError as error:
        names = [r.name for r in all_runs(root)]
        near = nearest(name or "", names)
        if not near or any(n.startswith(name or "") for n in names):
            raise
        raise LookupError(f"{error}. Did you mean {near}?") from None


def state_of(run: Run, info: dict[str, Any]) -> str:
    """finished, running, interrupted, failed, died or damaged.

    A run that was killed could not write so into its run.json, but the kernel dropped its
    lock: "running" without a holder of the lock means that it died.
    """
    if run.damage:
        return "damaged"
    state = str(info.get("state", "unknown"))
    return "died" if state in ("running", "new") and not run.held else state


def summary(run: Run) -> dict[str, Any]:
    """The run's entry in `itercli.runs/1`, see docs/json.md."""
    info = run.info
    nodes = info.get("nodes", {})
    places = {i: run.store.entry(place["kind"], place["key"]).path for i, place in nodes.items()}
    done = {i for i, path in places.items() if (path / MANIFEST).exists()}
    loop: dict[int, list[str]] = {}
    for i, place in nodes.items():
        if i.startswith("iteration-"):
            loop.setdefault(place["iteration"], []).append(i)
    state = state_of(run, info)
    return {
        "name": run.name,
        "path": str(run.path),
        "recipe": info.get("recipe"),
        "state": state,
        "iterations": {
            "done": sum(done.issuperset(ids) for ids in loop.values()),
            "total": len(loop) if loop else info.get("iterations", 0),
        },
        "stages": {"done": len(done), "total": len(nodes)},
        "headline": _headline(run, info),
        "created": info.get("created"),
        "updated": info.get("updated"),
        "seconds": round(_seconds(run, info, state), 1),
        "stopped_early": info.get("stopped_early"),
        "error": first_line(run.damage or info.get("error")) or None,
    }


def seconds_since(time: str | None) -> float | None:
    """Seconds since a time in run.json or events.jsonl; None where there is none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(time or "")).total_seconds()
    except ValueError:
        return None


def resume_command(run: Run) -> str:
    """The command line that continues a run, from this folder."""
    return f"iter resume {shlex.quote(run.name)}{runs_option(run)}"


def runs_option(run: Run) -> str:
    """`` --runs DIR`` where the run is not in the default folder."""
    if run.root.resolve() == Path("runs").resolve():
        return ""
    return f" --runs {shlex.quote(str(run.root))}"


def _headline(run: Run, info: dict[str, Any]) -> dict[str, Any] | None:
    data = by_iteration(run)
    name = info.get("headline")
    if name not in data:
        name = next(iter(data), None)
    if name is None:
        return None
    iterations = sorted(data[name])
    first, last = ({"iteration": i, "value": _value(data[name][i])} for i in (iterations[0], iterations[-1]))
    return {"metric": name, "first": first, "last": last}


def _value(metric: Any) -> Any:
    return metric["value"] if isinstance(metric, dict) else metric


def _seconds(run: Run, info: dict[str, Any], state: str) -> float:
    """Time in all attempts; the one under way, or killed, is not in run.json yet."""
    spent = float(info.get("seconds", 0))
    begun = seconds_since(info.get("updated"))
    if state not in ("running", "died") or begun is None:
        return spent
    if state == "running":
        return spent + begun
    last = None
    for event in run.events():
        last = event.get("time")
    ended = seconds_since(last)
    return spent + (max(begun - ended, 0.0) if ended is not None else 0.0)

"""Where a run was made: versions, devices, machines."""

from __future__ import annotations

from typing import Any

from itercli.engine.runs import Run
from itercli.report.stages import StageView

Row = dict[str, Any]
LOADED = ("device", "dtype", "threads", "slots")


def environment(run: Run, views: list[StageView]) -> Row:
    """What the run's artifacts and events say of where they were made.

    Returns:
        ``versions``: library -> versions that made its stages; ``loaded``: what models were
        loaded with, as short texts; ``machines``: one mapping for each machine that it ran on;
        ``peak_memory``: bytes, of the largest stage, or None; ``attempts``: times it was started.
    """
    versions: dict[str, dict[str, None]] = {}
    peaks = []
    for v in views:
        manifest = v.entry.manifest or {}
        for name, version in (manifest.get("versions") or {}).items():
            versions.setdefault(str(name), {})[str(version)] = None
        peak = (manifest.get("work") or {}).get("peak_memory")
        peaks += [peak] if isinstance(peak, int | float) else []
    loaded: dict[str, None] = {}
    machines: list[Row] = []
    attempts = 0
    for event in run.events():
        if event.get("event") == "policy_loaded":
            loaded[", ".join(f"{k} {event[k]}" for k in LOADED if event.get(k) is not None)] = None
        elif event.get("event") == "run_started":
            attempts += 1
            machine = event.get("machine")
            machines += [machine] if isinstance(machine, dict) and machine not in machines else []
    return {
        "versions": {name: list(found) for name, found in versions.items()},
        "loaded": [text for text in loaded if text],
        "machines": machines,
        "peak_memory": max(peaks, default=None),
        "attempts": attempts,
    }

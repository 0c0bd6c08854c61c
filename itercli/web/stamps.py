"""Stamps: what a page was made from, told by times and sizes of files, without reading any.

Two equal stamps mean that the same page would be made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from itercli.engine.runs import RUN_FILE, Run
from itercli.engine.store import CHECKPOINTS, JOURNAL, LOCK
from itercli.sweep.record import FILE as SWEEP_FILE
from itercli.sweep.record import FOLDER as SWEEPS
from itercli.training.step_log import STEPS

GROWING = (JOURNAL, STEPS)
WORK = (CHECKPOINTS, LOCK)


def run_stamp(run: Run) -> Any:
    """Of what a list says about a run: its state, how far it is, its metrics."""
    names = (RUN_FILE, "events.jsonl", "metrics.jsonl", "config.yaml")
    return run.name, run.held, *(file_stamp(run.path / name) for name in names)


def page_stamp(run: Run, nodes: dict[str, Any]) -> Any:
    """Of all that a report says about a run.

    A file that grows line by line counts by its order of magnitude alone: the page is made
    again each time that it has doubled, and the rows are read twice at most.

    Args:
        nodes: The run's plan.
    """
    folders = {run.store.entry(place["kind"], place["key"]).path for place in nodes.values()}
    return run_stamp(run), [_folder(path) for path in sorted(folders)]


def list_stamp(root: Path, runs: Iterable[Run]) -> Any:
    """Of the list of runs, sweeps included."""
    sweeps = sorted((root / SWEEPS).glob(f"*/{SWEEP_FILE}"))
    return [run_stamp(run) for run in runs], [(str(p), file_stamp(p)) for p in sweeps]


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Inode, time and size; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def short(stamp: Any) -> str:
    """A stamp as a short text."""
    return blake2b(repr(stamp).encode(errors="replace"), digest_size=12).hexdigest()


def _folder(path: Path) -> list[Any]:
    try:
        with os.scandir(path) as files:
            found = [(f.name, f.stat()) for f in files if f.name not in WORK]
    except OSError:  # not there yet, or taken out just now
        return []
    return [
        (name, s.st_size.bit_length()) if name in GROWING else (name, s.st_mtime_ns, s.st_size)
        for name, s in sorted(found, key=lambda item: item[0])
    ]

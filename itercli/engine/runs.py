"""Run folders: what one `iter run` was, and links to what it made.

::

    runs/NAME/config.yaml       the resolved recipe
    runs/NAME/run.json          overrides, plan (node -> key), state
    runs/NAME/events.jsonl      what happened when
    runs/NAME/metrics.jsonl     one line per stage with metrics
    runs/NAME/logs/attempt-NN/  output of the workers
    runs/NAME/iteration-NN/STAGE -> ../../.store/KIND/KEY
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine.files import is_held, lock, read_json, write_json
from itercli.engine.store import Entry, Store

RUN_FILE = "run.json"
RUN_LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return self.path.parent

    @property
    def store(self) -> Store:
        """The store that the run points into."""
        return Store(self.root / ".store")

    @property
    def info(self) -> dict[str, Any]:
        """Content of run.json; empty if there is none."""
        return read_json(self.path / RUN_FILE) or {}

    def save(self, info: dict[str, Any]) -> None:
        """Write run.json; from then on nothing that it names is removed from the store."""
        with self.store.in_use():
            write_json(self.path / RUN_FILE, info)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run; raises `Locked` if another process runs it."""
        with lock(self.path / RUN_LOCK, f"process {os.getpid()}"):
            with self.store.in_use():
                pass  # what is taken out before is seen by the plan; after, the run is seen to be held
            yield

    @property
    def held(self) -> bool:
        """Whether a process is running it now."""
        return is_held(self.path / RUN_LOCK)

    def event(self, kind: str, **fields: Any) -> None:
        """Append a line to events.jsonl."""
        self._append("events.jsonl", {"time": _now(), "event": kind, **fields})

    def metric(self, **fields: Any) -> None:
        """Append a line to metrics.jsonl."""
        self._append("metrics.jsonl", {"time": _now(), **fields})

    def events(self) -> Iterator[dict[str, Any]]:
        """All events; a torn last line is passed over."""
        return _lines(self.path / "events.jsonl")

    def metrics(self) -> list[dict[str, Any]]:
        """The latest metrics of every node, in running order."""
        latest: dict[str, dict[str, Any]] = {}
        for line in _lines(self.path / "metrics.jsonl"):
            latest[line["node"]] = line
        order = list(self.info.get("nodes", {}))
        known = [m for m in latest.values() if m["node"] in order]
        return sorted(known, key=lambda m: order.index(m["node"]))

    def link(self, node: str, entry: Entry) -> None:
        """Point the run's folder at an artifact."""
        path = self.path / node
        path.parent.mkdir(parents=True, exist_ok=True)
        target = os.path.relpath(entry.path, path.parent)
        if path.is_symlink() and os.readlink(path) == target:
            return
        scratch = path.with_name(f".{path.name}.tmp")
        scratch.unlink(missing_ok=True)
        os.symlink(target, scratch)
        os.replace(scratch, path)

    def entry(self, node: str) -> Entry | None:
        """The artifact of a node of this run, by the plan in run.json."""
        place = self.info.get("nodes", {}).get(node)
        return self.store.entry(place["kind"], place["key"]) if place else None

    def new_log_folder(self) -> Path:
        """`logs/attempt-NN`, with `logs/latest` pointing at it."""
        logs = self.path / "logs"
        taken = [int(p.name.split("-")[1]) for p in logs.glob("attempt-*")]
        folder = logs / f"attempt-{max(taken, default=0) + 1:02d}"
        folder.mkdir(parents=True)
        latest = logs / "latest"
        latest.unlink(missing_ok=True)
        os.symlink(folder.name, latest)
        return folder

    def _append(self, name: str, value: dict[str, Any]) -> None:
        data = json.dumps(value, ensure_ascii=False, default=str).encode() + b"\n"
        handle = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, data)
        finally:
            os.close(handle)


def all_runs(root: Path) -> list[Run]:
    """Runs below a folder, newest first."""
    found = [Run(p.parent) for p in root.glob(f"*/{RUN_FILE}")]
    return sorted(found, key=lambda r: r.info.get("updated", ""), reverse=True)


def find_run(root: Path, name: str | None) -> Run:
    """A run by name, unique beginning or path; the newest if no name is given.

    Raises:
        LookupError: None, or several; the message lists what there is.
    """
    runs = all_runs(root)
    if name is None:
        if not runs:
            raise LookupError(f"there are no runs in {root}; start one with `iter run recipe=NAME`")
        return runs[0]
    path = Path(name)
    if (path / RUN_FILE).is_file():
        return Run(path.resolve())
    exact = [r for r in runs if r.name == name]
    hits = exact or [r for r in runs if r.name.startswith(name)]
    if len(hits) == 1:
        return hits[0]
    known = ", ".join(r.name for r in (hits or runs)[:8]) or "none"
    what = f"{len(hits)} runs begin with {name!r}" if hits else f"no run {name!r} in {root}"
    raise LookupError(f"{what}; there are: {known}")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        handle = open(path, encoding="utf-8")  # noqa: SIM115 - closed below, after the last line is read
    except FileNotFoundError:
        return
    with handle:
        for line in handle:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"

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

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine import shapes
from itercli.engine.checked import Damaged, Lines, append_line, read_document, tell, write_document
from itercli.engine.files import is_held, lock, write_atomic
from itercli.engine.store import Entry, Store

RUN_FILE = "run.json"
CONFIG = "config.yaml"
RUN_LOCK = ".lock"
MEASURED = ("metrics", "model")  # kinds of artifacts that always have metrics
EVENTS, METRICS = "events.jsonl", "metrics.jsonl"


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
        """Content of run.json; empty if there is none, or it is damaged, see `damage`."""
        with suppress(Damaged):
            return read_document(self.path / RUN_FILE, shapes.RunInfo) or {}
        return {}

    @property
    def damage(self) -> str:
        """What is wrong with run.json, and the way out; else an empty string."""
        try:
            read_document(self.path / RUN_FILE, shapes.RunInfo)
        except Damaged as error:
            return (
                f"{error}. Its artifacts are not touched by that: the `iter run` line that made the run, "
                f"given again, writes the file anew"
            )
        return ""

    def save(self, info: dict[str, Any]) -> None:
        """Write run.json; from then on nothing that it names is removed from the store."""
        with self.store.in_use():
            write_document(self.path / RUN_FILE, info)

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
        append_line(self.path / EVENTS, {"time": _now(), "event": kind, **fields})

    def metric(self, **fields: Any) -> None:
        """Append a line to metrics.jsonl."""
        append_line(self.path / METRICS, {"time": _now(), **fields})

    def events(self) -> Iterator[dict[str, Any]]:
        """All events; damaged lines are passed over, and told once."""
        return iter(self._events)

    def metrics(self) -> list[dict[str, Any]]:
        """The latest metrics of every node, in running order.

        A line that is damaged or gone is made up for by the finished artifact, which says the same.
        """
        lines = self._metrics
        latest = {line["node"]: line for line in lines}
        nodes = self.info.get("nodes", {})
        for i, place in nodes.items():
            if latest.get(i, {}).get("key") == place["key"]:
                continue
            if lines.damaged or place["kind"] in MEASURED:
                latest.update(self._from_manifest(i, place))
                if lines.damaged and latest.get(i, {}).get("key") != place["key"]:
                    latest.pop(i, None)  # the damaged line may have been newer
        return [latest[i] for i in nodes if i in latest]

    def write_config(self, text: str) -> str:
        """Write config.yaml; returns its checksum, which belongs into run.json as `config`."""
        data = text.encode(errors="replace")
        write_atomic(self.path / CONFIG, data)
        return hashlib.sha256(data).hexdigest()

    def config_text(self) -> str:
        """Content of config.yaml.

        Raises:
            Damaged: It is missing, or not what was written.
        """
        path = self.path / CONFIG
        try:
            data = path.read_bytes()
            text = data.decode()
        except (OSError, ValueError) as error:
            raise Damaged(path, getattr(error, "strerror", None) or str(error)) from None
        if self.info.get("config") not in (None, hashlib.sha256(data).hexdigest()):
            raise Damaged(path, f"it does not match the checksum in {RUN_FILE}")
        return text

    def repair(self) -> None:
        """Set damaged records aside; only while the run is held."""
        if self.damage:
            aside = f"{RUN_FILE}.damaged"
            os.replace(self.path / RUN_FILE, self.path / aside)
            tell(f"{self.path / RUN_FILE} is damaged; set aside as {aside} and written anew")
        for lines in (self._events, self._metrics):
            if moved := lines.repair():
                aside = f"{lines.path.name}.damaged"
                self.event("lines_set_aside", file=lines.path.name, lines=moved, to=aside)
                tell(f"{lines.path}: {moved} damaged line{'s' * (moved > 1)} set aside in {aside}")

    @property
    def _events(self) -> Lines:
        return Lines(self.path / EVENTS, shapes.Event, "time")

    @property
    def _metrics(self) -> Lines:
        return Lines(self.path / METRICS, shapes.MetricLine, "time")

    def _from_manifest(self, node: str, place: dict[str, Any]) -> dict[str, dict[str, Any]]:
        manifest = self.store.entry(place["kind"], place["key"]).manifest
        if not manifest or not manifest["metrics"]:
            return {}
        line = {"node": node, "iteration": place["iteration"], "stage": node.partition("/")[2]}
        return {node: {**line, "key": place["key"], "metrics": manifest["metrics"]}}

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


def all_runs(root: Path) -> list[Run]:
    """Runs below a folder, newest first."""
    found = [Run(p.parent) for p in root.glob(f"*/{RUN_FILE}")]
    return sorted(found, key=lambda r: r.info.get("updated", ""), reverse=True)


def find_run(root: Path, name: str | None) -> Run:
    """A run by name, unique beginning or path; the newest if no name is given.

    Raises:
        LookupError: None, or several; the message lists what there is. Or its run.json is damaged.
    """
    runs = all_runs(root)
    if name is None:
        if not runs:
            raise LookupError(f"there are no runs in {root}; start one with `iter run recipe=NAME`")
        return _readable(runs[0])
    path = Path(name)
    if (path / RUN_FILE).is_file():
        return _readable(Run(path.resolve()))
    exact = [r for r in runs if r.name == name]
    hits = exact or [r for r in runs if r.name.startswith(name)]
    if len(hits) == 1:
        return _readable(hits[0])
    known = ", ".join(r.name for r in (hits or runs)[:8]) or "none"
    what = f"{len(hits)} runs begin with {name!r}" if hits else f"no run {name!r} in {root}"
    raise LookupError(f"{what}; there are: {known}")


def _readable(run: Run) -> Run:
    if run.damage:
        raise LookupError(run.damage)
    return run


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"

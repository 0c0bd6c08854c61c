"""The worker's side of a stage: inputs from the store, journal, progress, sealing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from itercli.engine.checked import write_document
from itercli.engine.clock import WorkClock
from itercli.engine.files import write_json
from itercli.engine.journal import RowJournal, tail
from itercli.engine.rows import read_rows, write_rows
from itercli.engine.shapes import Layout
from itercli.engine.store import CLOCK, JOURNAL, META, MODEL, ROWS, Entry
from itercli.errors import IterError
from itercli.records import ModelRef, Record
from itercli.stages.base import Lender

R = TypeVar("R", bound=Record)
T = TypeVar("T")
PROGRESS_SECONDS = 0.2
ALIVE_SECONDS = 10.0
POLL_SECONDS = 0.05


class StoredArtifact:
    """An input in the store, finished or still growing."""

    def __init__(self, entry: Entry, label: str) -> None:
        self.entry = entry
        self.label = label

    @property
    def path(self) -> Path:
        """Folder of the artifact."""
        return self.entry.path

    def rows(self, record: type[R]) -> Iterator[R]:
        """All rows of the finished artifact, in stored order.

        Raises:
            Damaged: They are not what was stored.
        """
        return read_rows(self.entry.file(ROWS), record)

    def follow(self, record: type[R]) -> Iterator[R | None]:
        """Rows as the producer appends them; None while there is nothing new."""
        seen: set[tuple[str, int]] = set()
        offset = 0
        while self.entry.sealed() is None:
            try:
                for item in tail(self.path / JOURNAL, record, offset=offset):
                    if isinstance(item, int):
                        offset = item
                    elif item.key not in seen:
                        seen.add(item.key)
                        yield item
            except ValueError:
                offset = 0  # the producer restarted and repaired its journal: read it anew
            yield None
            time.sleep(POLL_SECONDS)
        for row in self.rows(record):
            if row.key not in seen:
                yield row

    def json(self, name: str) -> Any:
        """A JSON file of the artifact."""
        return self.entry.json(name)

    def count(self) -> int | None:
        """Rows there will be, if the producer has said so."""
        manifest = self.entry.manifest
        if manifest is not None:
            return manifest["rows"]
        return self.entry.total


def model_ref(entry: Entry, version: str, start: str) -> ModelRef:
    """How to load the model that a `train` stage left in the store.

    Args:
        start: Folder of the role's start model, which adapters may be on.

    Raises:
        IterError: Its files were removed since the run was planned.
    """
    layout = entry.json(MODEL, Layout)
    manifest = entry.manifest
    if layout is None or manifest is None:
        raise FileNotFoundError(f"{entry.path} holds no finished model")
    if reason := entry.missing_model():
        raise IterError(f"{version}: {reason}; the same command again makes it again")
    root = entry.path.parents[1]
    return ModelRef(
        base=start if layout["base"] is None else str(root / layout["base"]),
        adapter=None if layout["adapter"] is None else str(root / layout["adapter"]),
        version=version,
        digest=layout["digest"] or manifest["digest"],
    )


class Context:
    """Implements `itercli.stages.base.StageContext` for one run of one stage."""

    def __init__(
        self,
        *,
        name: str,
        iteration: int,
        seed: int,
        entry: Entry,
        inputs: dict[str, list[Any]],
        models: dict[str, ModelRef],
        shared: dict[str, Any],
        stop: threading.Event,
        send: Callable[[dict[str, Any]], None],
        lenders: Callable[[], Iterator[Lender]] = lambda: iter(()),
    ) -> None:
        self.name = name
        self.iteration = iteration
        self.seed = seed
        self.work = entry.path
        self.inputs = inputs
        self.models = models
        self.row_count: int | None = None
        self.record: str | None = None
        self.counts: dict[str, int] = {}
        self.metrics: dict[str, Any] = {}
        self.resumed_rows = 0
        self.borrowed_rows: dict[str, int] = {}
        self.lenders = lenders
        self._shared = shared
        self._stop = stop
        self._send = send
        self._journal: RowJournal[Any] | None = None
        self._clock = WorkClock(self.work / CLOCK)
        self._last_progress = 0.0
        self._pending: dict[str, Any] | None = None

    def stopping(self) -> bool:
        """True once the stage should stop; that it asks tells the engine that it doesn't hang."""
        if time.monotonic() - self._last_progress > ALIVE_SECONDS:
            self._last_progress = time.monotonic()
            self._send(self._pending or {"t": "alive"})
            self._pending = None
        return self._stop.is_set()

    def seconds(self) -> float:
        """Working time of this stage so far, over all its attempts."""
        return self._clock.seconds()

    def progress(self, done: int, total: int | None, unit: str, **metrics: float | str) -> None:
        """Send progress, five times a second at most."""
        now = time.monotonic()
        message = {"t": "progress", "done": done, "total": total, "unit": unit, "metrics": metrics}
        if now - self._last_progress < PROGRESS_SECONDS and done != total and "status" not in metrics:
            self._pending = message
            return
        self._last_progress, self._pending = now, None
        self._send(message)

    def journal(self, record: type[R], total: int | None = None) -> RowJournal[R]:
        """Open the stage's journal and announce the number of rows."""
        self._journal = journal = RowJournal(self.work / JOURNAL, record)
        self.resumed_rows = len(journal.done)
        if total is not None:
            write_document(self.work / META, {"total": total})
        self.event("journal_opened", rows=len(journal.done), repaired=journal.repaired)
        return journal

    def borrowed(self, lender: Lender, rows: int = 1) -> None:
        """Count copied rows; the manifest and the run's log say how many there were."""
        self.borrowed_rows[lender.key] = self.borrowed_rows.get(lender.key, 0) + rows

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """An object kept by this worker; another key of the same prefix replaces it."""
        prefix = key.split(":")[0]
        for other in [k for k in self._shared if k.split(":")[0] == prefix and k != key]:
            close = getattr(self._shared.pop(other), "close", None)
            if close:
                close()
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def event(self, kind: str, **fields: Any) -> None:
        """Send an event to the run's log."""
        self._send({"t": "event", "event": kind, "fields": fields})

    def finish_rows(self, record: type[Record], rows: Iterator[Record], **counts: int) -> None:
        """Write the artifact's rows as Parquet."""
        self.row_count = write_rows(self.work / ROWS, record, rows)
        for key, count in self.borrowed_rows.items():
            self.event("note", text=f"{count} of {self.row_count} rows are copies from {key[:8]}")
        self.record = record.__name__
        self.counts.update(counts)

    def finish_file(self, name: str, value: Any) -> None:
        """Write a JSON file into the artifact."""
        write_json(self.work / name, value)

    def finish_model(
        self, base: Path | str, *, adapter: Path | str | None = None, digest: str | None = None
    ) -> None:
        """Write `model.json`; see `model_ref`.

        Paths are relative to the store, and a base outside of it (the role's start model) is
        left open, so that artifacts stay valid when folders move.
        """
        root = self.work.parents[1]

        def place(path: Path | str | None) -> str | None:
            inside = path is not None and Path(path).is_relative_to(root)
            return str(Path(path).relative_to(root)) if path is not None and inside else None

        self.finish_file(MODEL, {"base": place(base), "adapter": place(adapter), "digest": digest})

    def finish_metrics(self, metrics: dict[str, Any]) -> None:
        """Set metrics of the artifact; a number that isn't finite is no value (None)."""
        self.metrics.update(_finite(metrics))

    def close(self) -> None:
        """Close the journal; what was throttled is sent."""
        if self._journal is not None:
            self._journal.close()
        if self._pending is not None:
            self._send(self._pending)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

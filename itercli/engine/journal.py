"""Append-only row journals: what a stage has finished is there after any kill.

One JSON line a row, keyed (prompt id, sample index), one writer. A row is handed to the
operating system in one write when it is appended, so killing the process loses nothing;
it is synced to the disk at least every two seconds, so a power cut loses at most that.
On opening, a torn or damaged line and what follows it in the same write is cut off.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from itercli.engine.encode import encode
from itercli.engine.files import explain_full_disk
from itercli.records import Record

SYNC_SECONDS = 2.0
R = TypeVar("R", bound=Record)


class RowJournal(Generic[R]):
    """A journal open for appending.

    Attributes:
        done: Keys of the rows that are there.
        repaired: Lines that were damaged and dropped on opening; their rows are done again.
    """

    def __init__(self, path: Path, record: type[R]) -> None:
        self.path = path
        self.record = record
        self.done: set[tuple[str, int]] = set()
        self.repaired = self._repair()
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._dirty_since: float | None = None
        self._closed = threading.Event()
        self._syncer = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._syncer.start()

    def append(self, row: Record) -> None:
        """Add a row.

        Raises:
            ValueError: A row with this key is there already.
            RowError: The row holds something that JSON can't, such as NaN.
            OSError: The disk is full; the torn line is cut off on the next opening.
        """
        with self._lock:
            if row.key in self.done:
                raise ValueError(f"{self.path.name}: row {row.key} was appended twice")
            data = encode(row) + b"\n"
            try:
                while data:  # a nearly full disk can take a part of it
                    data = data[os.write(self._handle, data) :]
            except OSError as error:
                raise explain_full_disk(error, self.path) from error
            self.done.add(row.key)
            if self._dirty_since is None:
                self._dirty_since = time.monotonic()

    def rows(self) -> Iterator[R]:
        """All rows, in the order in which they were appended."""
        with open(self.path, "rb") as handle:
            for line in handle:
                yield self.record.model_validate_json(line)

    def close(self) -> None:
        """Sync and close."""
        if not self._closed.is_set():
            self._closed.set()
            self._syncer.join()
            with self._lock:
                os.fsync(self._handle)
                os.close(self._handle)

    def _sync_loop(self) -> None:
        while not self._closed.wait(SYNC_SECONDS / 4):
            with self._lock:
                if self._dirty_since is None or time.monotonic() - self._dirty_since < SYNC_SECONDS / 2:
                    continue
                self._dirty_since = None
            os.fsync(self._handle)

    def _repair(self) -> int:
        """Read what is there; rewrite the file without damaged lines if there are any."""
        if not self.path.exists():
            return 0
        good: list[bytes] = []
        bad = 0
        raw = self.path.read_bytes()
        for line in raw.splitlines(keepends=True):
            row = self._parse(line)
            if row is None or row.key in self.done:
                bad += 1
            else:
                self.done.add(row.key)
                good.append(line)
        if bad:
            scratch = self.path.with_suffix(".repair")
            with open(scratch, "wb") as handle:
                handle.writelines(good)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(scratch, self.path)
        return bad

    def _parse(self, line: bytes) -> R | None:
        if not line.endswith(b"\n"):
            return None
        try:
            return self.record.model_validate_json(line)
        except ValidationError:
            return None


def tail(path: Path, record: type[R], *, offset: int = 0) -> Iterator[R | int]:
    """Read complete rows from `offset` to the end of a journal that another process writes.

    Yields:
        Rows; last, the offset to go on from.
    """
    with open(path, "rb") as handle:
        handle.seek(offset)
        for line in handle:
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            yield record.model_validate_json(line)
    yield offset

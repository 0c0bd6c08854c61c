"""Append-only row journals: what a stage has finished is there after any kill.

One JSON line a row with its checksum, keyed (prompt id, sample index), one writer. A row is
handed to the operating system in one write when it is appended, so killing the process loses
nothing; it is synced to the disk at least every two seconds, so a power cut loses at most that.
On opening, damaged lines are cut out. Files are read as streams: a row is in memory only while
somebody looks at it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, TypeVar

from itercli.engine.checked import seal, unseal, write_all
from itercli.engine.encode import encode
from itercli.engine.files import explain_full_disk, sync
from itercli.records import Record

SYNC_SECONDS = 2.0
Key = tuple[str, int]
R = TypeVar("R", bound=Record)


class Keys:
    """A set of row keys that takes about 100 bytes a key: 128 bits of hash stand for each."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def add(self, key: Key) -> None:
        """Add a key."""
        self._hashes.add(_hash(key))

    def issuperset(self, keys: Iterable[Key]) -> bool:
        """Whether all of the keys are in it."""
        return all(key in self for key in keys)

    def __contains__(self, key: Key) -> bool:
        return _hash(key) in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)


class RowJournal(Generic[R]):
    """A journal open for appending.

    Attributes:
        done: Keys of the rows that are there.
        repaired: Lines that were damaged and dropped on opening; their rows are done again.
    """

    def __init__(self, path: Path, record: type[R]) -> None:
        self.path = path
        self.record = record
        self.done = Keys()
        self.repaired = self._repair()
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        sync(path.parent)
        self._lock = threading.Lock()
        self._dirty_since: float | None = None
        self._unsynced: OSError | None = None
        self._closed = threading.Event()
        self._syncer = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._syncer.start()

    def append(self, row: Record) -> None:
        """Add a row.

        Raises:
            ValueError: A row with this key is there already.
            RowError: The row holds something that JSON can't, such as NaN.
            OSError: The disk is full (the torn line is cut off on the next opening), or rows
                before this one could not be synced.
        """
        with self._lock:
            self._check_synced()
            if row.key in self.done:
                raise ValueError(f"{self.path.name}: row {row.key} was appended twice")
            data = seal(encode(row))
            try:
                write_all(self._handle, data)
            except OSError as error:
                raise explain_full_disk(error, self.path) from error
            self.done.add(row.key)
            if self._dirty_since is None:
                self._dirty_since = time.monotonic()

    def rows(self) -> Iterator[R]:
        """All rows, in the order in which they were appended."""
        for _, row in _read(self.path, self.record):
            if row is not None:
                yield row

    def ordered(self, place: Callable[[R], Any]) -> Iterator[R]:
        """All rows in another order, without holding them in memory.

        Args:
            place: Gives what a row is sorted by.
        """
        places = []
        offset = 0
        for line, row in _read(self.path, self.record):
            if row is not None:
                places.append((place(row), offset))
            offset += len(line)
        places.sort()
        with open(self.path, "rb") as handle:
            for _, offset in places:
                handle.seek(offset)
                yield self.record.model_validate_json(unseal(handle.readline()))

    def close(self) -> None:
        """Sync and close.

        Raises:
            OSError: Rows could not be synced.
        """
        if not self._closed.is_set():
            self._closed.set()
            self._syncer.join()
            with self._lock:
                try:
                    self._sync()
                finally:
                    os.close(self._handle)
                self._check_synced()

    def _check_synced(self) -> None:
        if self._unsynced is not None:
            raise OSError(
                self._unsynced.errno,
                f"{self.path} can't be synced to the disk ({self._unsynced.strerror}), so its newest rows "
                f"may be lost with the next power cut. Check the disk, then run the same command again: what "
                f"is not whole is done again",
            )

    def _sync(self) -> None:
        """Sync; that it failed is remembered: later ones may succeed though these rows are lost."""
        try:
            os.fsync(self._handle)
        except OSError as error:
            self._unsynced = self._unsynced or error
            self._dirty_since = time.monotonic()  # tried again, for the rows that can be saved

    def _sync_loop(self) -> None:
        while not self._closed.wait(SYNC_SECONDS / 4):
            with self._lock:
                if self._dirty_since is None or time.monotonic() - self._dirty_since < SYNC_SECONDS / 2:
                    continue
                self._dirty_since = None
            self._sync()

    def _repair(self) -> int:
        """Note the keys that are there; rewrite the file without damaged lines if there are any."""
        bad: set[int] = set()
        for number, (_, row) in enumerate(_read(self.path, self.record)):
            if row is None or row.key in self.done:
                bad.add(number)
            else:
                self.done.add(row.key)
        if bad:
            scratch = self.path.with_suffix(".repair")
            with open(self.path, "rb") as old, open(scratch, "wb") as new:
                new.writelines(line for number, line in enumerate(old) if number not in bad)
                new.flush()
                os.fsync(new.fileno())
            os.replace(scratch, self.path)
            sync(self.path.parent)
        return len(bad)


def tail(path: Path, record: type[R], *, offset: int = 0) -> Iterator[R | int]:
    """Read complete rows from `offset` to the end of a journal that another process writes.

    Yields:
        Rows; last, the offset to go on from.

    Raises:
        ValueError: A line is damaged, or was rewritten meanwhile.
    """
    for line, row in _read(path, record, offset):
        if not line.endswith(b"\n"):
            break
        if row is None:
            raise ValueError(f"{path}: the line at {offset} is damaged")
        offset += len(line)
        yield row
    yield offset


def whole_rows(path: Path, record: type[R]) -> Iterator[R]:
    """Rows of a journal that nobody writes to, without those that are damaged."""
    for _, row in _read(path, record):
        if row is not None:
            yield row


def count_rows(path: Path) -> int:
    """Whole lines of a journal; 0 if there is none."""
    count = 0
    with suppress(FileNotFoundError, NotADirectoryError), open(path, "rb") as handle:
        for line in handle:
            with suppress(ValueError):
                unseal(line)
                count += 1
    return count


def _read(path: Path, record: type[R], offset: int = 0) -> Iterator[tuple[bytes, R | None]]:
    """Lines of a journal with their rows, None where one is damaged."""
    try:
        handle = open(path, "rb")  # noqa: SIM115 - closed below, after the last line is read
    except FileNotFoundError:
        return
    with handle:
        handle.seek(offset)
        for line in handle:
            try:
                yield line, record.model_validate_json(unseal(line))
            except ValueError:  # of which pydantic's is one
                yield line, None


def _hash(key: Key) -> int:
    prompt_id, index = key
    text = f"{index} {prompt_id}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=16).digest())

"""Optuna's journal with a checksum in every line; Optuna's own programs read it, too.

Each line is an operation, and the lines after it count on it. So none is passed over: a damaged
one is an error. What a kill or a full disk tore at the end never happened, and is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itercli.engine.checked import Damaged, parse, seal, unseal, write_all
from itercli.engine.files import explain_full_disk, sync


class CheckedJournal:
    """The journal of a study, shared by processes: what Optuna calls a `BaseJournalBackend`."""

    def __init__(self, path: Path) -> None:
        from optuna.storages.journal import JournalFileOpenLock

        self.path = path
        self._lock = JournalFileOpenLock(str(path))
        self._offsets = [0]  # where each line begins
        if not path.exists():
            path.touch()
            sync(path.parent)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Operations from this number on.

        Raises:
            Damaged: One of them is not what was written.
        """
        number = min(log_number_from, len(self._offsets) - 1)
        with open(self.path, "rb") as handle:
            handle.seek(self._offsets[number])
            for line in handle:
                if not line.endswith(b"\n"):
                    return  # torn, or under way
                try:
                    log = parse(unseal(line, "op_code"))
                except ValueError as error:
                    raise Damaged(self.path, f"line {number + 1}: {error}. {self._way_out}") from None
                number += 1
                if number == len(self._offsets):
                    self._offsets.append(self._offsets[-1] + len(line))
                if number > log_number_from:
                    yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add operations; they are on the disk when this returns."""
        data = b"".join(seal(json.dumps(log, separators=(",", ":")).encode()) for log in logs)
        self._lock.acquire()
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                end = self._whole(handle)
                os.ftruncate(handle, end)
                os.lseek(handle, end, os.SEEK_SET)
                write_all(handle, data)
                os.fsync(handle)
            except OSError as error:
                raise explain_full_disk(error, self.path) from error
            finally:
                os.close(handle)
        finally:
            self._lock.release()

    @staticmethod
    def _whole(handle: int) -> int:
        """Where the last whole line ends."""
        end = os.fstat(handle).st_size
        while end and os.pread(handle, 1, end - 1) != b"\n":
            end -= 1
        return end

    @property
    def _way_out(self) -> str:
        return (
            f"Restore the file from a backup, or delete {self.path.parent} and give the same line again: "
            f"a new study draws the same points, and reuses what their runs have computed"
        )

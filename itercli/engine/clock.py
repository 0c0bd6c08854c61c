"""Working time of a stage, added up over all its attempts."""

from __future__ import annotations

import time
from pathlib import Path

from itercli.engine.files import read_json, write_json

SAVE_SECONDS = 2.0


class WorkClock:
    """Counts from when it is made; what earlier attempts spent is in a file beside the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = self._saved = time.monotonic()
        self._earlier: float = read_json(path) or 0.0

    def seconds(self) -> float:
        """Seconds spent so far; remembered every few seconds, as long as somebody asks."""
        now = time.monotonic()
        spent = self._earlier + now - self._began
        if now - self._saved > SAVE_SECONDS:
            self._saved = now
            write_json(self._path, spent)
        return spent

"""Working time of a stage, added up over all its attempts."""

from __future__ import annotations

import time
from pathlib import Path

from itercli.engine.checked import read_document_or, write_document
from itercli.engine.files import read_json
from itercli.engine.shapes import Shape

SAVE_SECONDS = 2.0


class _Spent(Shape):
    seconds: float


class WorkClock:
    """Counts from when it is made; what earlier attempts spent is in a file beside the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began = self._saved = time.monotonic()
        known = read_json(path)
        if isinstance(known, int | float):  # of an older version
            self._earlier = float(known)
        else:
            spent = read_document_or(path, _Spent, "the working time begins anew")
            self._earlier = float(spent.get("seconds", 0.0))

    def seconds(self) -> float:
        """Seconds spent so far; remembered every few seconds, as long as somebody asks."""
        now = time.monotonic()
        spent = self._earlier + now - self._began
        if now - self._saved > SAVE_SECONDS:
            self._saved = now
            write_document(self._path, {"seconds": spent})
        return spent

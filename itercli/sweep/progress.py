"""Which point of how many, how the last ones ended, and how long the rest may take."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from itercli.engine.checked import read_document_or
from itercli.engine.display import duration
from itercli.engine.shapes import Shape
from itercli.report.text import clean
from itercli.sweep.record import SweepPoint

POLL_SECONDS = 0.5
ENDS = {0: "finished", 3: "run by another process"}


class _Result(Shape):
    begun: float
    ended: float = 0.0
    code: int = 0


class Progress:
    """Reads what the points' jobs write down, and prints each beginning and end once.

    Args:
        attempt: Folder of the attempt.
        points: Those that are to run.
        total: All points of the sweep, with those that were done before.
    """

    def __init__(self, attempt: Path, points: Sequence[SweepPoint], total: int) -> None:
        self._attempt = attempt
        self._points = points
        self._total = total
        self._began = time.monotonic()
        self._begun: set[str] = set()
        self.codes: dict[str, int] = {}

    def look(self) -> None:
        """Print what is new."""
        before = self._total - len(self._points)
        for n, point in enumerate(self._points, before + 1):
            if point.run in self.codes:
                continue
            result = read_document_or(self._attempt / f"{point.run}.json", _Result, "its end is not shown")
            if not result:
                continue
            title = f"[{n}/{self._total}] {point.label}"
            if point.run not in self._begun:
                self._begun.add(point.run)
                _say(f"{title}: {point.run}")
            if "code" in result and "ended" in result:
                code = self.codes[point.run] = result["code"]
                how = ENDS.get(code, "interrupted" if code >= 128 else "failed")
                left = self._left() if code < 128 else ""
                _say(f"{title}: {how} after {duration(result['ended'] - result['begun'])}{left}")

    def _left(self) -> str:
        """Time left if the points to come take as long as those that have ended."""
        ended = len(self.codes)
        if ended == len(self._points):
            return ""
        each = (time.monotonic() - self._began) / ended
        to_come = len(self._points) - ended
        return f"; {to_come} to go, about {duration(each * to_come)}"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look from time to time, in a thread, until the block ends."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(POLL_SECONDS):
                self.look()

        thread = threading.Thread(target=watch, name="sweep progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.look()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {clean(text)}", flush=True)

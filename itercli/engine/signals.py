"""Signals that ask to stop."""

from __future__ import annotations

import time

AGAIN_SECONDS = 1.0


class Debounce:
    """Tells a second wish from an echo of the first.

    `timeout`, job systems and terminals signal a process and its group: the same wish arrives twice
    within milliseconds. Called when a signal arrives; false for an echo.
    """

    def __init__(self) -> None:
        self._last = -AGAIN_SECONDS

    def __call__(self) -> bool:
        now = time.monotonic()
        echo = now - self._last < AGAIN_SECONDS
        if not echo:
            self._last = now
        return not echo

"""A cache that computes each value once, whoever asks and however many at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

V = TypeVar("V")


class Once(Generic[V]):
    """Thread-safe cache; the least recently used values go first.

    Args:
        size: Values kept.
    """

    def __init__(self, size: int = 1 << 17) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Future[V]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], V]) -> tuple[V, bool]:
        """The value of a key, and whether this call computed it.

        A second caller waits for the first. If computing fails, those who wait get the error
        and the next caller tries again.
        """
        with self._lock:
            future = self._values.get(key)
            mine = future is None
            if future is None:
                future = self._values[key] = Future()
                if len(self._values) > self._size:
                    self._values.popitem(last=False)
            else:
                self._values.move_to_end(key)
        if mine:
            try:
                future.set_result(compute())
            except BaseException as error:
                with self._lock:
                    self._values.pop(key, None)
                future.set_exception(error)
        return future.result(), mine

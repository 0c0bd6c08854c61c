"""Untrusted texts inside page data: cleaned, cut, and each kept once."""

from __future__ import annotations

import math
from typing import Any

from itercli.report.text import clean

LONGEST = 12_000  # characters of one text
ALL = 3_000_000  # characters of all texts of a page
SHORTEST = 500
ITEMS = 400  # of one list inside a row


class Cut(str):
    """The beginning of a text that was too long; `left` characters are missing."""

    left = 0


def cut(text: str, most: int = LONGEST) -> str:
    """The beginning of a text, cleaned; a `Cut` where something is missing."""
    missing = getattr(text, "left", 0) + max(len(text) - most, 0)
    kept = Cut(clean(text[:most]))
    if not missing:
        return str(kept)
    kept.left = missing
    return kept


def shorten(value: Any) -> Any:
    """A row with every text in it cut, so that many rows fit into memory.

    Nodes of a tree stay: a view of it chooses what to show.
    """
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, dict):
        return {
            k: [shorten(v) for v in x] if k == "nodes" and isinstance(x, list) else shorten(x)
            for k, x in value.items()
        }
    if isinstance(value, list | tuple):
        return [shorten(v) for v in value[:ITEMS]]
    return value


def tidy(value: Any) -> Any:
    """A value as JSON can hold it everywhere: texts and keys cleaned, no NaN, no infinities."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(str(k)): tidy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(v) for v in value]
    return value if value is None or isinstance(value, int | bool) else clean(str(value))


class Texts:
    """The texts of a page, each once: a completion is drawn, scored, selected and trained on."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], int] = {}

    def add(self, text: Any) -> int:
        """The place of a text in `table`."""
        kept = cut(text if isinstance(text, str) else str(text))
        return self._places.setdefault((str(kept), getattr(kept, "left", 0)), len(self._places))

    def table(self, budget: int = ALL) -> list[list[Any]]:
        """``[text, characters left out]`` by place; all are cut shorter until they fit the budget."""
        most = LONGEST
        while most > SHORTEST and sum(min(len(text), most) for text, _ in self._places) > budget:
            most //= 2
        return [[text[:most], left + max(len(text) - most, 0)] for text, left in self._places]

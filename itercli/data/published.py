"""Ids of tasks that papers published, by name."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

AGENT_R = Path(__file__).parent / "agent_r_ids" / "ids.json"
RANGE = re.compile(r"(\d+)-(\d+)")
NAMED = re.compile(r"agent_r_(train|test)(?::(\d+)-(\d+))?")


def expanded(kind: str, given: Any) -> list[Any]:
    """Ids from what a recipe writes: numbers, ranges and names, or a list of them.

    A range "40-59" has both ends. "agent_r_train" and "agent_r_test" are Agent-R's ids of a kind of
    environment, "agent_r_train:0-299" those at these positions. What is nothing of this stays as it is.

    Args:
        kind: webshop, textcraft or sciworld.

    Raises:
        ValueError: An empty range, or a list of ids that is not published.
    """
    numbers: list[Any] = []
    for entry in given if isinstance(given, list | tuple) else [given]:
        text = entry if isinstance(entry, str) else ""
        if ends := RANGE.fullmatch(text):
            numbers += _between(entry, int(ends[1]), int(ends[2]))
        elif named := NAMED.fullmatch(text):
            known = agent_r(kind, named[1])
            last = len(known) - 1
            at = _between(entry, int(named[2]), int(named[3])) if named[2] else range(len(known))
            if at[-1] > last:
                raise ValueError(f"{entry}: agent_r_{named[1]} of {kind} has positions 0 to {last}")
            numbers += [known[position] for position in at]
        else:
            numbers.append(entry)
    return numbers


@cache
def agent_r(kind: str, split: str) -> tuple[int, ...]:
    """Agent-R's ids of a kind of environment; those for training are sorted, as its searches take them.

    Raises:
        ValueError: None are published.
    """
    published = json.loads(AGENT_R.read_text())[kind]
    if split not in published:
        raise ValueError(
            f"agent_r_{split}: no such ids of {kind} are published, only agent_r_{min(published)}"
        )
    return tuple(published[split])


def _between(entry: str, first: int, last: int) -> range:
    if first > last:
        head = entry.rpartition(":")[0]
        raise ValueError(
            f"the range {entry} is empty; write it as {head + ':' if head else ''}{last}-{first}"
        )
    return range(first, last + 1)

"""One pass over a stage's rows: a few to look at, and the numbers whose distribution is shown.

Rows are read as a stream and only the chosen ones are kept, so a stage may be of any size.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from itercli.engine.runs import Run
from itercli.report.rows import Row, entry_of, stored_rows
from itercli.report.samples import outcome
from itercli.web.texts import shorten

CLASSES = 24  # outcome classes that are told apart when rows are chosen
SCORE, LENGTH = "score", "length"


@dataclass
class Survey:
    """What is known of a stage's rows.

    Attributes:
        rows: How many there are.
        outcomes: Class -> number, see `verdict` and `itercli.report.samples.outcome`.
        passed: Rows that passed, or were kept; None where rows can't tell.
        picked: The chosen rows, cut, in stored order.
        values: `SCORE` or `LENGTH` -> one number a row that has one.
        problem: Why not all rows could be read, or an empty text.
    """

    rows: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    passed: int | None = None
    picked: list[Row] = field(default_factory=list)
    values: dict[str, array[float]] = field(default_factory=dict)
    problem: str = ""


def survey(run: Run, node: str, count: int) -> Survey:
    """Read a stage's rows, finished or not.

    Args:
        count: How many rows to choose: as evenly as there are over what became of them,
            inside a class by a hash of prompt and number. So a prompt that is chosen in one
            stage or iteration is chosen in others too, and can be followed.
    """
    found = Survey()
    kind = run.info["nodes"][node]["kind"]
    measure = MEASURES.get(kind, _nothing)
    classes: dict[str, list[tuple[int, int, Row]]] = {}
    try:
        for n, row in enumerate(stored_rows(entry_of(run, node))):
            found.rows += 1
            verdict_ = verdict(row)
            if verdict_ is not None:
                found.passed = (found.passed or 0) + (verdict_ in ("passed", "kept"))
            name = outcome(row) or verdict_ or ""
            found.outcomes[name] += 1
            for what, value in measure(row):
                found.values.setdefault(what, array("d")).append(value)
            name = f"{verdict_} {name}"
            heap = classes.setdefault(name if name in classes or len(classes) < CLASSES else "", [])
            _offer(heap, count, -_rank(row), -n, row)
    except LookupError as error:
        found.problem = str(error)
    # A class after the other gives its first, then its second, until there are enough.
    ordered = sorted(classes.values(), key=len, reverse=True)
    turns = zip_longest(*(sorted(heap, key=lambda item: item[:2], reverse=True) for heap in ordered))
    chosen = [item for turn in turns for item in turn if item is not None][:count]
    found.picked = [row for _, _, row in sorted(chosen, key=lambda item: -item[1])]
    return found


def verdict(row: Row) -> str | None:
    """passed or failed of a score, kept or dropped of a pair; None where a row has neither."""
    if isinstance(row.get("passed"), bool):
        return "passed" if row["passed"] else "failed"
    if isinstance(row.get("kept"), bool) and "chosen" in row:
        return "kept" if row["kept"] else "dropped"
    return None


def _offer(heap: list[tuple[int, int, Row]], count: int, rank: int, n: int, row: Row) -> None:
    if len(heap) < count:
        heapq.heappush(heap, (rank, n, shorten(row)))
    elif heap and (rank, n) > heap[0][:2]:
        heapq.heapreplace(heap, (rank, n, shorten(row)))


def _rank(row: Row) -> int:
    name = f"{row.get('prompt_id', row.get('id', ''))}\0{row.get('index', 0)}"
    return int.from_bytes(hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest())


Values = Iterator[tuple[str, float]]


def _nothing(row: Row) -> Values:
    yield from ()


def _of_trajectory(row: Row) -> Values:
    yield from _number(LENGTH, row.get("tokens"))


def _of_score(row: Row) -> Values:
    yield from _number(SCORE, row.get("value"))


def _of_episode(row: Row) -> Values:
    yield from _number(SCORE, row.get("score"))
    yield from _number(LENGTH, len(row.get("turns") or ()) or None)


def _of_tree(row: Row) -> Values:
    yield from _number(SCORE, (row.get("meta") or {}).get("best"))
    yield from _number(LENGTH, len(row.get("nodes") or ()) or None)


def _of_pair(row: Row) -> Values:
    rewards = row.get("rewards")
    if rewards:
        yield SCORE, rewards[0] - rewards[1]
    yield LENGTH, len(str(row.get("chosen", ""))) - len(str(row.get("rejected", "")))


def _of_dialogue(row: Row) -> Values:
    yield LENGTH, len(row.get("messages") or ())


def _of_example(row: Row) -> Values:
    target, responses = row.get("target"), row.get("responses")
    if isinstance(responses, list) and responses:
        yield LENGTH, len(str(responses[target if isinstance(target, int) else 0]))


def _number(name: str, value: Any) -> Values:
    if isinstance(value, int | float) and value == value and abs(value) != float("inf"):
        yield name, float(value)


MEASURES: dict[str, Callable[[Row], Values]] = {
    "trajectories": _of_trajectory, "scores": _of_score, "episodes": _of_episode, "trees": _of_tree,
    "pairs": _of_pair, "dialogues": _of_dialogue, "examples": _of_example,
}  # fmt: skip
# What the numbers are, by kind of rows: shown beside a distribution.
UNITS = {
    "trajectories": {LENGTH: "tokens of a completion"},
    "scores": {SCORE: "score of a completion"},
    "episodes": {SCORE: "score of an episode", LENGTH: "turns of an episode"},
    "trees": {SCORE: "best score of a tree", LENGTH: "nodes of a tree"},
    "pairs": {SCORE: "reward of chosen minus rejected", LENGTH: "characters of chosen minus rejected"},
    "dialogues": {LENGTH: "messages of a dialogue"},
    "examples": {LENGTH: "characters of the answer trained on"},
}  # fmt: skip

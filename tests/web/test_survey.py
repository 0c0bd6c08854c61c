"""Rows are chosen to be representative, and what a page holds of them is bounded."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from itercli.engine.rows import write_rows
from itercli.engine.runs import Run
from itercli.engine.store import ROWS
from itercli.records import Score
from itercli.web.browser import TOGETHER, per_stage
from itercli.web.layered import layout
from itercli.web.survey import CLASSES, SCORE, Survey, survey
from itercli.web.texts import LONGEST, Texts, cut, tidy

NODE = "iteration-01/score"


def surveyed(path: Path, outcomes: list[str], count: int) -> Survey:
    """What is found in a score stage with a row for each outcome."""
    run = Run(path / "run")
    run.path.mkdir(parents=True)
    run.save({"nodes": {NODE: {"kind": "scores", "key": "k", "needs": []}}})
    entry = run.store.entry("scores", "k")
    entry.path.mkdir(parents=True)
    rows = [
        Score(
            prompt_id=f"p{n}", index=0, completion="", policy="", value=n, passed=name == "pass", outcome=name
        )
        for n, name in enumerate(outcomes)
    ]  # fmt: skip
    write_rows(entry.path / ROWS, Score, rows)
    entry.finish(
        ingredients={}, inputs={}, models={}, rows=len(rows), record="Score", counts={}, metrics={},
        seconds=1, work={},
    )  # fmt: skip
    return survey(run, NODE, count)


def test_rare_outcomes_are_among_the_chosen(tmp_path: Path) -> None:
    found = surveyed(tmp_path, ["pass"] * 500 + ["mismatch"] * 400 + ["syntax"] * 2, 20)
    assert (found.rows, found.passed) == (902, 500)
    assert found.outcomes == {"pass": 500, "mismatch": 400, "syntax": 2}
    assert Counter(row["outcome"] for row in found.picked) == {"pass": 9, "mismatch": 9, "syntax": 2}
    places = [int(row["prompt_id"][1:]) for row in found.picked]
    assert places == sorted(places)
    assert places[:9] != list(range(9))  # not simply the first ones
    assert sorted(found.values[SCORE]) == list(range(902))


def test_the_same_prompts_are_chosen_elsewhere(tmp_path: Path) -> None:
    before, after = (surveyed(tmp_path / str(n), ["pass"] * (300 + n), 10) for n in (0, 5))
    chosen = [{row["prompt_id"] for row in found.picked} for found in (before, after)]
    assert len(chosen[0] & chosen[1]) >= 8


@pytest.mark.parametrize("count", [0, 1, 7])
def test_there_are_never_more_than_asked_for(tmp_path: Path, count: int) -> None:
    found = surveyed(tmp_path, [f"reason {n}" for n in range(CLASSES + 30)], count)
    assert len(found.picked) == count
    assert found.rows == CLASSES + 30


def test_a_page_has_a_bounded_number_of_samples() -> None:
    assert per_stage(1) == 20
    assert per_stage(100) * 100 <= TOGETHER
    assert per_stage(10**6) > 0


def test_texts_are_kept_once_and_within_a_budget() -> None:
    texts = Texts()
    assert texts.add("a") == texts.add("a") == 0
    long = texts.add("b" * 10**6)
    assert texts.table()[long] == ["b" * LONGEST, 10**6 - LONGEST]
    assert texts.add(cut("b" * 10**6)) == long  # cut already, and it still knows by how much
    small = texts.table(budget=4000)
    assert sum(len(text) for text, _ in small) <= 4000
    assert [len(text) + left for text, left in small] == [1, 10**6]


def test_json_can_hold_everything() -> None:
    made = tidy({"a": (math.nan, math.inf, 1.5), "b\x1b[1m\ud800": Path("x\u202e"), 3: None})
    assert made == {"a": [None, None, 1.5], "b": "x", "3": None}


def test_boxes_do_not_overlap_and_lines_go_down() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("x", "c"), ("c", "d"), ("a", "d"), ("y", "b"), ("b", "b")]
    places, lines = layout(dict.fromkeys("abcdxy", 100.0), edges)
    assert {name: rank for name, (_, rank) in places.items()} == {
        "a": 0,
        "y": 0,
        "b": 1,
        "x": 1,
        "c": 2,
        "d": 3,
    }
    for one, (x, rank) in places.items():
        assert x >= 50
        assert not [n for n, (at, r) in places.items() if n != one and r == rank and abs(at - x) < 100]
    assert set(lines) == set(edges) - {("b", "b")}
    for (first, last), points in lines.items():
        assert (points[0], points[-1]) == (places[first], places[last])
        assert [rank for _, rank in points] == list(range(points[0][1], points[-1][1] + 1))
        for x, rank in points[1:-1]:  # a line passes beside the boxes of the ranks between
            assert not [n for n, (at, r) in places.items() if r == rank and abs(at - x) < 50]

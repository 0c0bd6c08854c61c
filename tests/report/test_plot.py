"""Curves in the terminal."""

from __future__ import annotations

import math
from typing import Any

import pytest

from itercli.report.plot import HEIGHT, plot

CURVE: dict[int, Any] = {i: {"value": i / 10, "low": i / 10 - 0.05, "high": i / 10 + 0.05} for i in range(4)}


@pytest.mark.parametrize("width", [30, 80, 200])
def test_lines_fit_and_have_no_colours(width: int) -> None:
    lines = plot("evaluate.pass@1", CURVE, width).split("\n")
    assert len(lines) == HEIGHT
    assert max(map(len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    assert lines[0].strip() == "evaluate.pass@1"
    assert sum(line.count("●") for line in lines) == 4
    assert lines[-1].split()[0] == "start"
    assert "\x1b[" in plot("evaluate.pass@1", CURVE, width, colour=True)


def test_one_iteration() -> None:
    drawn = plot("m", {2: 0.0}, 60)
    assert drawn.count("●") == 1
    assert drawn.split("\n")[-1].strip() == "2"
    assert "0.000┤" in drawn


def test_the_line_breaks_where_a_value_is_missing() -> None:
    def line(metric: dict[int, Any]) -> int:
        return sum(0x2800 < ord(c) < 0x2900 for c in plot("m", metric, 60))

    whole: dict[int, Any] = {0: 1.0, 1: 2.0, 2: 3.0}
    for gap in (None, math.nan, {"value": None, "low": None, "high": None}):
        assert line({**whole, 1: gap}) == 0
        assert 0 < line({**whole, 1: 2.0, 2: gap}) < line(whole)
    with pytest.raises(LookupError, match="m has no value"):
        plot("m", {1: None}, 60)


def test_many_iterations_keep_their_ends() -> None:
    ticks = plot("m", {i: i for i in range(100)}, 60).split("\n")[-1].split()
    assert (ticks[0], ticks[-1]) == ("start", "99")
    assert len(ticks) <= 7


def test_outputs_without_box_drawing_get_ascii() -> None:
    drawn = plot("m", CURVE, 60, encoding="ascii")
    assert drawn.isascii()
    assert drawn.count("*") == 4
    assert "?" not in drawn


def test_a_hostile_name_is_cleaned() -> None:
    drawn = plot("x\x1b[2J[bold]\ny", CURVE, 60)
    assert "\x1b" not in drawn
    assert len(drawn.split("\n")) == HEIGHT

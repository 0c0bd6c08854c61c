"""Metrics as text: fractions as before, words and missing values too."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from itercli.engine.display import result_text
from itercli.report.numbers import interval, missing, number
from itercli.report.tables import _cell


def metric(value: float | None, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "prompts": 8, **more}


@pytest.mark.parametrize(
    ("value", "low", "high", "cell"),
    [
        (0.3984, 0.34, 0.46, "0.398 (.34-.46)"),
        (1.0, 0.5, 1.0, "1.000 (.50-1.00)"),
        (3.41, 3.1, 3.7, "3.410 (3.10-3.70)"),
        (64.25, 10.24, 80.1, "64.25 (10.2-80.1)"),
        (312.44, 298.2, 1027, "312.4 (298-1027)"),
        (5210.6, 4998.7, 5400, "5211 (4999-5400)"),
        (-0.25, -0.5, 0.25, "-0.250 (-.50 to .25)"),
        (0.0, 0.0, 0.0, "0.000 (.00-.00)"),
    ],
)
def test_size_decides_the_places(value: float, low: float, high: float, cell: str) -> None:
    m = metric(value, low, high)
    assert f"{number(value)} ({interval(m)})" == cell
    console = Console(width=100)
    with console.capture() as capture:
        console.print(_cell(m))
    assert capture.get().strip() == cell


def test_missing_values_are_said() -> None:
    some, none = metric(3.4, 3.0, 3.8, missing=2), metric(None, None, None, missing=8)
    assert missing(some) == ", 2 missing"
    assert missing(metric(1, 1, 1)) == ""
    assert "3.400" in _cell(some)
    assert "2 missing" in _cell(some)
    assert "8 missing" in _cell(none)
    line = result_text({"rows": None, "counts": {}, "metrics": {"depth": some, "rank": none, "loss": 2e-5}})
    assert line == "depth 3.400 [3.000, 3.800], 2 missing, rank -, 8 missing, loss 2e-05"
    words = {"words": metric(312.44, 98.16, 1027.3)}
    assert result_text({"rows": None, "counts": {}, "metrics": words}) == "words 312.4 [98.2, 1027.3]"

"""What is shown while a run goes on."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from itercli.engine.display import LiveDisplay, PlainDisplay, Rate


@pytest.mark.parametrize("display", [PlainDisplay, LiveDisplay])
def test_notes_quote_logs_without_their_terminal_escapes(
    display: type[PlainDisplay] | type[LiveDisplay], capsys: pytest.CaptureFixture[str]
) -> None:
    display().note("worker died\n  | \x1b]0;owned\x07 [b]bye[/b] \x1b[2J")
    out = capsys.readouterr().out
    assert "[b]bye[/b]" in out
    assert "\x1b" not in out
    assert "owned" not in out


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def heard(rate: Rate, done: int, **metrics: Any) -> None:
    rate.hear({"t": "progress", "done": done, "total": 100, "unit": "completions", "metrics": metrics})


def test_time_left_counts_the_work_and_not_the_loading_of_models(clock: SimpleNamespace) -> None:
    rate = Rate()
    heard(rate, 0, status="loading policy@1")
    clock.now += 600
    heard(rate, 0)
    assert rate.left(0, 100) is None
    for done in range(1, 11):
        clock.now += 1
        heard(rate, done, tokens=40 * done)
    assert rate.per_second == 1.0
    assert rate.left(10, 100) == 90


def test_a_first_burst_gives_no_rate_yet(clock: SimpleNamespace) -> None:
    rate = Rate()
    heard(rate, 0)
    clock.now += 0.1
    heard(rate, 8)
    assert rate.left(8, 100) is None


def test_polling_before_the_first_row_does_not_start_the_clock(clock: SimpleNamespace) -> None:
    rate = Rate()
    for _ in range(60):
        rate.add(0)
        clock.now += 10
    for done in range(5):
        rate.add(done)
        clock.now += 1
    assert rate.per_second == 1.0

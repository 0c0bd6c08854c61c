"""What is shown while a run goes on."""

from __future__ import annotations

import pytest

from itercli.engine.display import LiveDisplay, PlainDisplay


@pytest.mark.parametrize("display", [PlainDisplay, LiveDisplay])
def test_notes_quote_logs_without_their_terminal_escapes(
    display: type[PlainDisplay] | type[LiveDisplay], capsys: pytest.CaptureFixture[str]
) -> None:
    display().note("worker died\n  | \x1b]0;owned\x07 [b]bye[/b] \x1b[2J")
    out = capsys.readouterr().out
    assert "[b]bye[/b]" in out
    assert "\x1b" not in out
    assert "owned" not in out

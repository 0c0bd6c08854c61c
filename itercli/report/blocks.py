"""Pieces of samples on a terminal: rules and titled texts, cleaned and cut."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from itercli.report.text import clean, clip


def rule(console: Console, title: Text) -> None:
    """A line with a title, which is cut to fit."""
    title.truncate(console.width - 6, overflow="ellipsis")
    console.print(Rule(title, align="left", style="dim"))


def messages(console: Console, turns: list[dict[str, Any]], lines: int | None) -> None:
    """A prompt, message by message."""
    for message in turns:
        block(console, f"prompt, {message['role']}", message["content"], lines)


def block(console: Console, name: str, text: str, lines: int | None, *, code: bool = False) -> None:
    """A text under its name.

    Args:
        lines: Lines that are shown; None for all.
        code: It may be Verilog.
    """
    shown, left = clip(clean(text).strip("\n"), lines)
    console.print(Text(clean(name), "cyan"))
    console.print(Padding(_body(console, shown, code), (0, 0, 0, 2), expand=False))
    if left:
        console.print(Text(f"  ... {left} more characters, --full shows them", "dim"))


def _body(console: Console, text: str, code: bool) -> Any:
    """Plain text, or Verilog in colours where there are any."""
    if code and console.color_system and "endmodule" in text:
        from rich.syntax import Syntax

        return Syntax(text, "verilog", theme="ansi_dark", background_color="default", word_wrap=True)
    return Text(text.expandtabs(4), overflow="fold")

"""Dialogues on a terminal: turn by turn, with what is trained on and where they came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from itercli.report.blocks import block
from itercli.report.text import clean, first_line

Row = Mapping[str, Any]
FACT = 100  # characters of a fact


def learnt(dialogue: Row) -> Text:
    """``revision  3 of 5 answers trained on``: its origin, and how much of it counts."""
    flags = [flag for message, flag in flagged(dialogue) if message.get("role") == "assistant"]
    text = Text(f"{clean(str(dialogue.get('origin') or 'dialogue'))}  ")
    return text.append(f"{sum(flags)} of {len(flags)} answers trained on", "green" if any(flags) else "red")


def show_dialogue(console: Console, dialogue: Row, lines: int | None) -> None:
    """Print a dialogue.

    Args:
        lines: Lines of each text that are shown; None for all.
    """
    for name, value in (dialogue.get("meta") or {}).items():
        told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if told:
            fact = first_line(told)
            cut = f"{fact[:FACT]}..." if lines is not None and len(fact) > FACT else fact
            console.print(Text(clean(f"{name} {cut}"), "dim", overflow="fold"))
    for n, (message, flag) in enumerate(flagged(dialogue), 1):
        role = str(message.get("role", "?"))
        note = ("" if flag else "not ") + "trained on" if role == "assistant" or flag else ""
        block(console, f"{n} {role}{': ' * bool(note)}{note}", str(message.get("content", "")), lines)


def flagged(dialogue: Row) -> list[tuple[Row, bool]]:
    """Messages with their flags; one without a flag is not trained on."""
    messages, flags = dialogue.get("messages") or [], dialogue.get("loss") or []
    return [(message, n < len(flags) and bool(flags[n])) for n, message in enumerate(messages)]

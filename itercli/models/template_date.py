"""The date that chat templates print: the same in a whole run, not the clock's.

Templates of the Llama 3.1 kind ask for today's date (`strftime_now`). With the clock's, prompts would
be other tokens tomorrow than today: sampled on one day, trained on the next, resumed on a third.
"""

from __future__ import annotations

import functools
from datetime import datetime
from pathlib import Path
from typing import Any

# What Llama's own template prints where it can't see a clock.
DEFAULT = "2024-07-26"

_ASKS = "strftime_now"


def asks_for_date(folder: Path) -> bool:
    """Whether the chat template of a model's folder prints the date."""
    files = [folder / "tokenizer_config.json", *folder.glob("*chat_template*")]
    files += folder.glob("additional_chat_templates/*")
    for path in files:
        try:
            if path.is_file() and _ASKS in path.read_text("utf-8", errors="replace"):
                return True
        except OSError:
            continue  # whoever loads it says so
    return False


def fix_date(tokenizer: Any, date: str | None) -> None:
    """Make a tokenizer's template print `date` (ISO; None is `DEFAULT`) instead of the clock's."""
    if _ASKS not in str(getattr(tokenizer, "chat_template", None)):
        return
    midnight = datetime.fromisoformat(date or DEFAULT)
    # A value that is given to a template goes before a function of the same name that it can call.
    tokenizer.apply_chat_template = functools.partial(
        tokenizer.apply_chat_template, strftime_now=midnight.strftime
    )


def date_string(date: str | None) -> str:
    """The date as Llama's template prints it, for servers that render it ("26 Jul 2024")."""
    return datetime.fromisoformat(date or DEFAULT).strftime("%d %b %Y")

"""General data that keep a model what it was: conversations as ShareGPT or as messages, JSON or JSON Lines.

By path, or the shipped set by name: `textcraft-games`, perfect games of TextCraft in other recipe
books, made by ``scripts/play_textcraft_games.py`` for tiny-textcraft.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itercli.data.base import DataError, read_jsonl, read_text
from itercli.records import Dialogue, Message

SHIPPED = {"textcraft-games": Path(__file__).parent / "textcraft_games.jsonl.gz"}
ROLES: Mapping[str, Any] = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "model": "assistant", "system": "system",
}  # fmt: skip


def conversations_file(name: str) -> Path:
    """The shipped set of this name, or else the path."""
    return SHIPPED.get(name) or Path(name).expanduser()


def read_conversations(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON array or of a JSON Lines file, either perhaps gzipped.

    Raises:
        DataError: It is neither.
    """
    if not read_text(path).lstrip().startswith("["):
        return [row for _, row in read_jsonl(path)]
    try:
        rows = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(path, None, f"not JSON ({error})", "Give a JSON array or JSON Lines") from error
    if strange := next((row for row in rows if not isinstance(row, dict)), None):
        raise DataError(path, None, f"an array with a {type(strange).__name__}", "Each item is an object")
    return rows


def as_dialogue(row: Mapping[str, Any], name: str) -> Dialogue | str:
    """A conversation of which all assistant turns are learnt; or why it is none.

    Fields: `messages` (role, content) or ShareGPT's `conversations` (from, value). What an assistant
    says before the first question is left out, as is a last question without an answer.
    """
    turns = row.get("messages", row.get("conversations"))
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return "no_conversation"
    messages = []
    for turn in turns:
        role = ROLES.get(turn.get("role", turn.get("from")))
        content = turn.get("content", turn.get("value"))
        if role is None or not isinstance(content, str) or not content.strip():
            return "unreadable_turn"
        messages.append(Message(role=role, content=content))
    system = messages[:1] if messages and messages[0].role == "system" else []
    asked = next((n for n, m in enumerate(messages) if m.role == "user"), len(messages))
    rest = messages[asked:]
    if rest and rest[-1].role == "user":
        rest.pop()
    if not rest:
        return "no_answer"
    if any(m.role != ("user", "assistant")[n % 2] for n, m in enumerate(rest)):
        return "turns_out_of_order"
    kept = [*system, *rest]
    return Dialogue(
        prompt_id=name, messages=kept, loss=[m.role == "assistant" for m in kept], origin="general"
    )

"""Source `jsonl`: your own prompts, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from itercli.data.base import DataError, Source, hash_files, read_jsonl
from itercli.records import Message, Prompt
from itercli.registry import register


@register("source", "jsonl")
class Jsonl(Source):
    """Prompts from JSON Lines.

    Each object has `prompt` (text of one user turn) or `messages` (a list of role and
    content), and may have `id` (else the file's stem and the row's number), `reference` and
    `meta`; every other field goes into `meta` too.

    Attributes:
        path: The file.
        offset: Rows to skip.
        limit: Rows to give, None for all.
    """

    VERSION: ClassVar[int] = 1

    path: Path = Field(json_schema_extra={"how": True})
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)

    def prompts(self) -> Iterator[Prompt]:
        path = self.path.expanduser()
        seen: dict[str, int] = {}
        stop = None if self.limit is None else self.offset + self.limit
        for number, (line, row) in islice(enumerate(read_jsonl(path)), self.offset, stop):
            prompt = _prompt(path, line, row, f"{path.stem}/{number}")
            if prompt.id in seen:
                what = f"id {prompt.id!r} is also on line {seen[prompt.id]}"
                raise DataError(path, line, what, "Give each row an id of its own, or none")
            seen[prompt.id] = line
            yield prompt

    def fingerprint(self) -> dict[str, str]:
        return hash_files([self.path.expanduser()])


def _prompt(path: Path, line: int, row: dict[str, Any], default_id: str) -> Prompt:
    rest = dict(row)
    text, messages = rest.pop("prompt", None), rest.pop("messages", None)
    if (text is None) == (messages is None):
        both = "both 'prompt' and 'messages'" if text is not None else "neither 'prompt' nor 'messages'"
        raise DataError(path, line, both, "Give one of them")
    if text is not None and not isinstance(text, str):
        what = f"'prompt' is a {type(text).__name__}"
        raise DataError(path, line, what, "Give it as text, or use 'messages'")
    meta = rest.pop("meta", None) or {}
    if not isinstance(meta, dict):
        raise DataError(path, line, f"'meta' is a {type(meta).__name__}", "Give an object")
    identity, reference = rest.pop("id", default_id), rest.pop("reference", None)
    turns = [{"role": "user", "content": text}] if text is not None else messages
    try:
        return Prompt(
            id=str(identity),
            messages=[Message.model_validate(turn) for turn in turns],
            reference=reference,
            meta={**rest, **meta},
        )
    except (ValidationError, TypeError) as error:
        where, what = "messages", str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where, what = ".".join(str(part) for part in first["loc"]), first["msg"]
        raise DataError(path, line, f"{where}: {what}", "Correct the row") from error

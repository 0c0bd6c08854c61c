"""Source `jsonl`: your own prompts, one JSON object a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from itercli.data.base import DataError, RowSource, hash_files, jsonl_rows
from itercli.recipe.seeds import digest
from itercli.records import Message, Prompt
from itercli.registry import register

LastAnswer = Literal["fail", "reference", "keep"]
SHOWS = "'messages' end with the assistant's answer, so the prompt shows it"
ENDS = "Take it out, or set `last_answer: reference` (it is the reference) or `keep` (it stays in the prompt)"


@register("source", "jsonl")
class Jsonl(RowSource):
    """Prompts from JSON Lines.

    Each object has `prompt` (text of one user turn) or `messages` (a list of role and
    content), and may have `id`, `reference` and `meta`; every other field goes into `meta` too.
    A row without an `id` (or with null) is named after the file and a hash of its messages, so
    that it keeps its name, and with it its samples, when other rows come and go.

    Attributes:
        path: The file.
        offset: Rows to skip.
        limit: Rows to give, None for all.
        last_answer: Messages that end with the assistant's would show the model its answer: "fail",
            "reference" takes that answer as the reference, "keep" leaves it in the prompt.
        cluster: Field by which rows are alike (document, template), for intervals.
    """

    VERSION: ClassVar[int] = 2

    path: Path = Field(json_schema_extra={"how": True})
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    last_answer: LastAnswer = "fail"
    cluster: str | None = Field(None, json_schema_extra={"how": True})

    def clusters(self) -> tuple[str, ...]:
        return (self.cluster,) if self.cluster else ()

    def read(self) -> Iterator[Prompt | DataError]:
        path = self.path.expanduser()
        stop = None if self.limit is None else self.offset + self.limit
        rows = PromptRows(path, self.last_answer)
        try:
            for line, row in islice(jsonl_rows(path), self.offset, stop):
                yield rows.prompt(line, row)
        except DataError as error:
            yield error

    def fingerprint(self) -> dict[str, str]:
        return hash_files([self.path.expanduser()])


class PromptRows:
    """Prompts of a table's rows, with ids that are unique.

    Args:
        path: The file, for errors and for the ids of rows that have none.
        last_answer: See `Jsonl`.
    """

    def __init__(self, path: Path, last_answer: LastAnswer) -> None:
        self.path, self.last_answer = path, last_answer
        self._seen: dict[str, int] = {}
        self._same: Counter[str] = Counter()

    def prompt(self, line: int, row: dict[str, Any] | DataError) -> Prompt | DataError:
        """The prompt of a row, or what is wrong with it."""
        try:
            prompt = _prompt(self.path, line, row, self.last_answer)
            if prompt.id in self._seen:
                if row.get("id") is not None:  # type: ignore[union-attr]
                    what = f"id {prompt.id!r} is also on line {self._seen[prompt.id]}"
                    raise DataError(self.path, line, what, "Give each row an id of its own, or none")
                self._same[prompt.id] += 1
                prompt = prompt.model_copy(update={"id": f"{prompt.id}-{self._same[prompt.id]}"})
        except DataError as error:
            return error
        self._seen[prompt.id] = line
        return prompt


def _prompt(path: Path, line: int, row: dict[str, Any] | DataError, last_answer: LastAnswer) -> Prompt:
    if isinstance(row, DataError):
        raise row
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
    identity, reference = rest.pop("id", None), rest.pop("reference", None)
    turns = [{"role": "user", "content": text}] if text is not None else messages
    try:
        found = [Message.model_validate(turn) for turn in turns]
        if not found:
            raise DataError(path, line, "'messages' is empty", "Give at least the user's turn")
        if found[-1].role == "assistant" and last_answer != "keep":
            if last_answer == "fail" or len(found) == 1 or reference is not None:
                raise DataError(path, line, SHOWS, ENDS)
            reference = found.pop().content
        if identity is None:
            identity = f"{path.stem}/{digest([[m.role, m.content] for m in found], 10)}"
        return Prompt(id=str(identity), messages=found, reference=reference, meta={**rest, **meta})
    except DataError:
        raise
    except (ValidationError, TypeError) as error:
        where, what = "messages", str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where, what = ".".join(str(part) for part in first["loc"]), first["msg"]
        raise DataError(path, line, f"{where}: {what}", "Correct the row") from error

"""Source `longgen`: the LonGen benchmark of Self-Lengthen, read as its authors publish it.

One JSON object a line with `language`, `range` (bucket of lengths), `type` (kind of limit),
`constraint` (the limit in a short phrase) and `query` (QwenLM/Self-Lengthen, eval/LonGen.jsonl).
The limit is taken from `constraint`, never from the query: some queries state none, and some
spell it in characters.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, ValidationError

from itercli.data.base import DataError, Source, hash_files, read_jsonl, string_field
from itercli.records import Message, Prompt
from itercli.registry import register
from itercli.verifiers.length import Kind, LengthLimit, parse_longgen

LANGUAGES = ("en", "zh")


@register("source", "longgen")
class LonGen(Source):
    """LonGen's queries with their limits.

    `meta` holds `language`, `type`, `range`, `constraint` and `length`: the limit as
    a `LengthLimit` in plain data.

    Attributes:
        path: The file.
        language: Only this language; None is both.
        type: Only this kind of limit; None is all.
        offset: Queries to skip, of those chosen.
        limit: Queries to give, None for all.
    """

    VERSION: ClassVar[int] = 1

    path: Path = Field(json_schema_extra={"how": True})
    language: Literal["en", "zh"] | None = None
    type: Kind | None = None
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)

    def prompts(self) -> Iterator[Prompt]:
        path = self.path.expanduser()
        rows = (_prompt(path, line, row, n) for n, (line, row) in enumerate(read_jsonl(path)))
        chosen = (
            p
            for p in rows
            if self.language in (None, p.meta["language"]) and self.type in (None, p.meta["type"])
        )
        return islice(chosen, self.offset, None if self.limit is None else self.offset + self.limit)

    def fingerprint(self) -> dict[str, str]:
        return hash_files([self.path.expanduser()])


def _prompt(path: Path, line: int, row: dict[str, Any], number: int) -> Prompt:
    language = one_of(path, line, row, "language", LANGUAGES)
    kind = one_of(path, line, row, "type", get_args(Kind))
    constraint = string_field(path, line, row, "constraint")
    return Prompt(
        id=f"longgen/{number}",
        messages=[Message(role="user", content=string_field(path, line, row, "query"))],
        meta={
            "language": language,
            "type": kind,
            "range": string_field(path, line, row, "range"),
            "constraint": constraint,
            "length": _limit(path, line, kind, constraint).model_dump(),
        },
    )


def _limit(path: Path, line: int, kind: str, constraint: str) -> LengthLimit:
    try:
        return parse_longgen(constraint, kind)
    except ValueError as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        fix = "Give two lengths, the smaller first" if kind == "range" else "Give one length in digits"
        raise DataError(path, line, f"'constraint' {constraint!r}: {what}", fix) from error


def one_of(path: Path, line: int, row: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    """The text under `name`, which must be one of `allowed`.

    Raises:
        DataError: It is missing or another one.
    """
    value = string_field(path, line, row, name)
    if value not in allowed:
        raise DataError(path, line, f"{name!r} is {value!r}", f"Expected one of {', '.join(allowed)}")
    return value

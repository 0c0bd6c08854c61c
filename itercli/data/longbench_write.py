"""Source `longbench_write`: LongBench-Write, read as its authors publish it.

One JSON object a line with `prompt`, `type` and `length`, the required length in words
(THUDM/LongWriter, evaluation/longbench_write.jsonl; the en subset and the "ruler" have the
same form, the latter without `type`). The score goes by `length`, never by the prompt's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.data.base import DataError, Source, hash_files, read_jsonl, string_field
from itercli.records import Message, Prompt
from itercli.registry import register
from itercli.verifiers.length import LengthLimit

# The paper reports by these ranges of required lengths.
RANGES = ((500, "0-500"), (2000, "500-2k"), (4000, "2-4k"))
IDEOGRAPH = re.compile(r"[\u4e00-\u9fff]")
WORD = re.compile(r"[A-Za-z]+")


@register("source", "longbench_write")
class LongBenchWrite(Source):
    """LongBench-Write's prompts with their required lengths.

    `meta` holds `type`, `required` (words), `range` of the required length, the same as
    a `LengthLimit` in `length`, and `language`, which the file does not say: Chinese
    where ideographs outnumber Latin words.

    Attributes:
        path: The file.
        language: Only this language; None is both.
        offset: Prompts to skip, of those chosen.
        limit: Prompts to give, None for all.
    """

    VERSION: ClassVar[int] = 1

    path: Path = Field(json_schema_extra={"how": True})
    language: Literal["en", "zh"] | None = None
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)

    def prompts(self) -> Iterator[Prompt]:
        path = self.path.expanduser()
        rows = (_prompt(path, line, row, n) for n, (line, row) in enumerate(read_jsonl(path)))
        chosen = (p for p in rows if self.language in (None, p.meta["language"]))
        return islice(chosen, self.offset, None if self.limit is None else self.offset + self.limit)

    def fingerprint(self) -> dict[str, str]:
        return hash_files([self.path.expanduser()])


def _prompt(path: Path, line: int, row: dict[str, Any], number: int) -> Prompt:
    text = string_field(path, line, row, "prompt")
    required = row.get("length")
    if isinstance(required, bool) or not isinstance(required, int) or required < 1:
        found = f"'length' is {required!r}" if "length" in row else "no 'length'"
        raise DataError(path, line, found, "Give the required length in words, 1 or more")
    return Prompt(
        id=f"longbench_write/{number}",
        messages=[Message(role="user", content=text)],
        meta={
            "language": _language(text),
            "type": string_field(path, line, row, "type") if "type" in row else "",
            "required": required,
            "range": next((name for below, name in RANGES if required < below), "4k+"),
            "length": LengthLimit(kind="about", n=required, low=None, high=None).model_dump(),
        },
    )


def _language(text: str) -> str:
    return "zh" if len(IDEOGRAPH.findall(text)) > len(WORD.findall(text)) else "en"

"""Source `rtlcoder`: RTLCoder's training files, scored or not.

JSON Lines (or one JSON array) with `Instruction`, `Input` (the module header), `Response` (a
list whose last element is the reference) and, in scored files, `Score` of the same length
(hkust-zhiyao/RTL-Coder; its data has no licence and is not shipped).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from itercli.data.base import DataError, Source, hash_files, read_jsonl, read_text, string_field
from itercli.records import Message, Prompt
from itercli.registry import register


@register("source", "rtlcoder")
class RtlCoder(Source):
    """RTLCoder's instructions with their references.

    `meta` holds `header`, `top` (of the header), and for scored rows `candidates`, `scores` and
    `reference_score`. There is no test bench: use a scorer that needs none.

    Attributes:
        path: The file.
        with_header: Ask with the header after the instruction, as at inference; False: the
            instruction alone, as RTLCoder trains.
        offset: Rows to skip.
        limit: Rows to give, None for all.
    """

    VERSION: ClassVar[int] = 1

    path: Path = Field(json_schema_extra={"how": True})
    with_header: bool = True
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)

    def prompts(self) -> Iterator[Prompt]:
        rows = _rows(self.path.expanduser())
        stop = None if self.limit is None else self.offset + self.limit
        for number, (line, row) in islice(enumerate(rows), self.offset, stop):
            yield self._prompt(number, line, row)

    def fingerprint(self) -> dict[str, str]:
        return hash_files([self.path.expanduser()])

    def _prompt(self, number: int, line: int | None, row: dict[str, Any]) -> Prompt:
        instruction = string_field(self.path, line, row, "Instruction")
        header = string_field(self.path, line, row, "Input") if "Input" in row else ""
        responses, scores = _candidates(self.path, line, row)
        text = instruction
        if self.with_header and header.strip():
            text = f"{instruction}\n{header}" if header.endswith("\n") else f"{instruction}\n{header}\n"
        meta: dict[str, Any] = {"suite": "rtlcoder", "task": str(number), "header": header}
        top = _top(header) or _top(responses[-1])
        if top:
            meta["top"] = top
        if scores:
            meta |= {"candidates": responses[:-1], "scores": scores[:-1], "reference_score": scores[-1]}
        messages = [Message(role="user", content=text)]
        return Prompt(id=f"rtlcoder/{number}", messages=messages, reference=responses[-1], meta=meta)


def _candidates(path: Path, line: int | None, row: dict[str, Any]) -> tuple[list[str], list[float]]:
    responses = row.get("Response")
    if isinstance(responses, str):
        responses = [responses]
    if not isinstance(responses, list) or not responses or not all(isinstance(r, str) for r in responses):
        fix = "Give a list of texts, the reference last"
        raise DataError(path, line, "'Response' is missing, empty or not a list of texts", fix)
    scores = row.get("Score")
    if scores is None:
        if len(responses) > 1:
            what = f"{len(responses)} responses without 'Score'"
            raise DataError(path, line, what, "Give one score per response, or the reference alone")
        return responses, []
    numbers = isinstance(scores, list) and all(
        isinstance(s, int | float) and not isinstance(s, bool) for s in scores
    )
    if not numbers or len(scores) != len(responses):
        what = f"'Score' does not fit {len(responses)} responses"
        raise DataError(path, line, what, "Give one number per response")
    return responses, [float(s) for s in scores]


def _top(text: str) -> str | None:
    words = text.replace("(", " ( ").replace("#", " # ").replace(";", " ; ").split()
    for before, name in pairwise(words):
        if before == "module":
            return name
    return None


def _rows(path: Path) -> Iterator[tuple[int | None, dict[str, Any]]]:
    if path.suffix != ".json" or not read_text(path).lstrip().startswith("["):
        yield from read_jsonl(path)
        return
    try:
        rows = json.loads(read_text(path))
    except ValueError as error:
        at = getattr(error, "lineno", None)
        raise DataError(path, at, f"not JSON ({error})", "Repair the file") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(path, None, f"element {number} is not an object", "Each must be one example")
        yield None, row

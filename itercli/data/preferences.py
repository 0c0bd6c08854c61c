"""Labelled preference pairs from files, in the forms in which they are published.

Each row has `chosen` and `rejected`. They are texts beside a `prompt` (a text, or messages), or
whole conversations that differ in their last turn (UltraFeedback-binarized, HH-RLHF as messages).
JSON Lines and Parquet files are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from itercli.data.base import DataError, read_jsonl, unreadable
from itercli.records import Message, PreferencePair

FORMS = (
    "Give 'prompt' with 'chosen' and 'rejected' as texts, or two conversations that differ in their last turn"
)


def read_preferences(path: Path) -> Iterator[PreferencePair]:
    """Pairs of a file in its order; a prompt's pairs are numbered from 0.

    The prompt's id is the row's `prompt_id` or `id`, else the file's stem and the row's number.

    Raises:
        DataError: The file is missing, or a row is none of the forms above.
    """
    counts: dict[str, int] = {}
    for number, row in _rows(path):
        messages, chosen, rejected = _read(path, number, row)
        name = str(row.get("prompt_id") or row.get("id") or f"{path.stem}/{number}")
        index = counts[name] = counts.get(name, -1) + 1
        scores = [row.get("score_chosen"), row.get("score_rejected")]
        yield PreferencePair(
            prompt_id=name,
            index=index,
            messages=messages,
            chosen=chosen,
            rejected=rejected,
            sources=("labelled", "labelled"),
            origin="labelled",
            rewards=None if None in scores else tuple(scores),
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                batches = (batch.to_pylist() for batch in file.iter_batches(1024))
                yield from enumerate((row for batch in batches for row in batch), 1)
        except pa.ArrowInvalid as error:
            raise DataError(
                path, None, f"not Parquet ({error})", "Name a Parquet or a JSON Lines file"
            ) from error
        except OSError as error:
            raise unreadable(path, error) from error
    else:
        yield from read_jsonl(path)


def _read(path: Path, number: int, row: dict[str, Any]) -> tuple[list[Message], str, str]:
    chosen, rejected, prompt = (row.get(k) for k in ("chosen", "rejected", "prompt"))
    before: list[list[Message]] = []
    answers: list[str] = []
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(value, str):
            given = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
            before.append(_messages(path, number, "prompt", given))
            answers.append(value)
        elif isinstance(value, list) and value:
            turns = _messages(path, number, name, value)
            if turns[-1].role != "assistant":
                raise DataError(path, number, f"{name!r} does not end with the assistant's turn", FORMS)
            head = turns[:-1] or _messages(path, number, "prompt", prompt)
            before.append(head)
            answers.append(turns[-1].content)
        else:
            found = "is missing" if value is None else f"is a {type(value).__name__}"
            raise DataError(path, number, f"{name!r} {found}", FORMS)
    if before[0] != before[1]:
        raise DataError(path, number, "'chosen' and 'rejected' answer different prompts", FORMS)
    return before[0], answers[0], answers[1]


def _messages(path: Path, number: int, name: str, value: Any) -> list[Message]:
    try:
        return [Message(role=turn["role"], content=turn["content"]) for turn in value]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(path, number, f"{name!r} is neither text nor messages", FORMS) from error

"""Rows as JSON, refused by name where JSON can't hold them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from itercli.errors import IterError
from itercli.records import Record


class RowError(IterError, ValueError):
    """A row with a number, a text or an object that JSON has no form for."""


def encode(row: Record) -> bytes:
    """The row as one line of JSON, without the newline.

    Raises:
        RowError: A number is not finite, a text is not Unicode, or `meta` holds an object of another kind.
    """
    try:
        data = row.model_dump_json().encode()
    except (ValueError, TypeError) as error:
        raise RowError(f"{_name(row)}: {next(_faults(row), str(error))}") from error
    # A text may well hold these words: only then is it worth looking at every value.
    if (b"NaN" in data or b"Infinity" in data) and (fault := next(_faults(row), "")):
        raise RowError(f"{_name(row)}: {fault}")
    return data


def _name(row: Record) -> str:
    prompt_id, index = row.key
    return f"{type(row).__name__} of prompt {prompt_id!r}, number {index}"


def _faults(value: Any, path: str = "") -> Iterator[str]:
    """What JSON can't hold, with its place in the row."""
    if isinstance(value, Record):
        for field in type(value).model_fields:
            yield from _faults(getattr(value, field), f"{path}.{field}" if path else field)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _faults(item, f"{path}.{key}")
    elif isinstance(value, list | tuple | set | frozenset):
        for n, item in enumerate(value):
            yield from _faults(item, f"{path}.{n}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{path} is {float(value)!r}, not a finite number"
    elif isinstance(value, str):
        if not value.isascii() and not _unicode(value):
            yield f"{path} holds half a surrogate pair, which is no text"
    elif value is not None and not isinstance(value, int | bytes):
        yield f"{path} is a {type(value).__name__}, which JSON has no form for"


def _unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

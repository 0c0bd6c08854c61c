"""Our own records on disk, each with a checksum of itself.

A document (`manifest.json`, `run.json` ...) and a line of a journal or log hold it in their first
field, `sum`. So a flipped digit is noticed, and never shown as a number. Records of older versions
have none; those are checked for their shape only.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from itercli.engine.files import explain_full_disk, write_json
from itercli.errors import IterError

SUM = "sum"
_HEAD = b'{"sum":"%08x",'
_HEAD_LENGTH = len(_HEAD % 0)
_told: set[str] = set()
log = logging.getLogger(__name__)


class Damaged(IterError):
    """A record that is not what was written.

    Attributes:
        path: The file.
        what: What is wrong with it.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        super().__init__(f"{path} is damaged: {what}")


def tell(text: str) -> None:
    """Log a warning once in the life of this process."""
    if text not in _told:
        _told.add(text)
        log.warning("note: %s", text)


# -- documents ------------------------------------------------------------------------------


def write_document(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON atomically, with its checksum."""
    text = json.dumps({k: v for k, v in value.items() if k != SUM}, ensure_ascii=False)
    content = json.loads(text.encode(errors="replace"))
    write_json(path, {SUM: _document_sum(content), **content})


def read_document(path: Path, shape: type[BaseModel] | None = None) -> dict[str, Any] | None:
    """Read what `write_document` wrote; None where there is no such file.

    Args:
        shape: Checked where the document has no checksum.

    Raises:
        Damaged: It is something else.
    """
    try:
        content = parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise Damaged(path, str(getattr(error, "strerror", None) or error)) from None
    if not isinstance(content, dict):
        raise Damaged(path, "it holds no JSON object")
    if SUM in content:
        if content.pop(SUM) != _document_sum(content):
            raise Damaged(path, "it does not match its checksum")
    elif shape is not None:
        try:
            shape.model_validate(content)
        except ValidationError as error:
            raise Damaged(path, explain(error)) from None
    return content


def read_document_or(path: Path, shape: type[BaseModel] | None, consequence: str) -> dict[str, Any]:
    """`read_document` where damage is no reason to stop: told once, and as good as absent.

    Args:
        consequence: The end of the message, after "NAME is damaged: WHAT; ".

    Returns:
        The document; empty where it is absent or damaged.
    """
    try:
        return read_document(path, shape) or {}
    except Damaged as error:
        tell(f"{error}; {consequence}")
        return {}


def parse(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is none, of whatever kind: not UTF-8, nested too deeply, a number too long.
    """
    try:
        return json.loads(data.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def explain(error: ValidationError) -> str:
    """The first problem that a shape found, in a line."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


def _document_sum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# -- lines ----------------------------------------------------------------------------------


def seal(text: bytes) -> bytes:
    """The line of a JSON object: with checksum and line end."""
    return _HEAD % zlib.crc32(text) + text[1:] + b"\n"


def unseal(line: bytes, first: str = "") -> bytes:
    """The JSON object of a line.

    Args:
        first: Name that the first field has where there is no checksum; empty: any.

    Raises:
        ValueError: It is torn, or does not match its checksum.
    """
    if not line.endswith(b"\n"):
        raise ValueError("it is torn")
    if line.startswith(_HEAD[: _HEAD.index(b"%")]):
        text = b"{" + line[_HEAD_LENGTH:-1]
        if line[:_HEAD_LENGTH] != _HEAD % zlib.crc32(text):
            raise ValueError("it does not match its checksum")
        return text
    if not line.startswith(f'{{"{first}'.encode()):
        raise ValueError(f"it does not begin with {first!r}")
    return line[:-1]


class Lines:
    """The lines of a log, read as a stream.

    Args:
        shape: What a line without a checksum must be.
        first: See `unseal`.

    Attributes:
        damaged: Numbers of the lines so far that are passed over, from 1.
    """

    def __init__(self, path: Path, shape: type[BaseModel], first: str) -> None:
        self.path, self.shape, self.first = path, shape, first
        self.damaged: list[int] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.damaged = []
        for number, (line, value) in enumerate(self.raw(), 1):
            if value is not None:
                yield value
            elif line.endswith(b"\n"):  # else it may be under way
                self.damaged.append(number)
        if self.damaged:
            shown = ", ".join(map(str, self.damaged[:5])) + (", ..." if len(self.damaged) > 5 else "")
            tell(f"{self.path}: damaged and passed over: line {shown}")

    def raw(self) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """Every line with its value, None where it is damaged."""
        try:
            handle = open(self.path, "rb")  # noqa: SIM115 - closed below, after the last line is read
        except (FileNotFoundError, NotADirectoryError):
            return
        with handle:
            for line in handle:
                yield line, self._value(line)

    def repair(self) -> int:
        """Move damaged lines to `NAME.damaged`; the writer's right alone.

        Returns:
            How many there were.
        """
        if all(value is not None for _, value in self.raw()):
            return 0
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        aside = self.path.with_name(f"{self.path.name}.damaged")
        moved = 0
        with open(scratch, "wb") as good, open(aside, "ab") as bad:
            for line, value in self.raw():
                moved += value is None
                (bad if value is None else good).write(line)
            for handle in (bad, good):
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(scratch, self.path)
        return moved

    def _value(self, line: bytes) -> dict[str, Any] | None:
        try:
            text = unseal(line, self.first)
            value = parse(text)
            if not isinstance(value, dict):
                return None
            if len(text) + 1 == len(line):  # without a checksum
                self.shape.model_validate(value)
        except ValueError:  # of which pydantic's is one
            return None
        return value


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append a line to a log; what a kill or a full disk tore before stays a line of its own.

    Raises:
        OSError: With the path and the way out where the disk is full.
    """
    data = seal(json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace"))
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            data = b"\n" + data
        write_all(handle, data)
    except OSError as error:
        raise explain_full_disk(error, path) from error
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes) -> None:
    """Write all of it: a nearly full disk, or a signal, can cut a write short."""
    while data:
        data = data[os.write(handle, data) :]

"""What a data source is, and the one error it raises.

A source turns files as their authors publish them into `Prompt` rows. Planning asks only
for its `fingerprint`, so constructing one must not read the data.
"""

from __future__ import annotations

import gzip
import json
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from itercli import ledger
from itercli.errors import IterError
from itercli.records import Prompt
from itercli.registry import Component

ONE_OBJECT = "Each line must hold one JSON object"


class DataError(IterError, ValueError):
    """A data file that is missing or malformed.

    Args:
        path: The file or folder.
        line: 1-based line, or None where the whole file is meant.
        what: What was found.
        fix: What the user can do about it.
    """

    def __init__(self, path: Path | str, line: int | None, what: str, fix: str) -> None:
        self.path, self.line, self.what, self.fix = Path(path), line, what, fix
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {what}. {fix}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.path, self.line, self.what, self.fix))


class Source(Component):
    """Base of all sources; relative paths resolve against the working directory.

    Class attributes:
        CLUSTER: Meta field whose equal values make prompts alike, if there is one.
    """

    CLUSTER: ClassVar[str | None] = None

    @abstractmethod
    def prompts(self) -> Iterator[Prompt]:
        """The prompts, in a fixed order, with ids that are stable across runs.

        Raises:
            DataError: A file is missing or malformed.
        """

    def here(self) -> bool:
        """Whether it can be read without fetching anything; if not, it isn't before the run."""
        return True

    def read(self) -> Iterator[Prompt | DataError]:
        """The prompts, and what is wrong with the data; a source that can go on behind an error does."""
        try:
            yield from self.prompts()
        except DataError as error:
            yield error

    def clusters(self) -> tuple[str, ...]:
        """Meta fields by which prompts are alike (template, goal, document), as `cluster` of a stage."""
        return (self.CLUSTER,) if self.CLUSTER else ()

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """Content hash of each file that `prompts` reads, for the stage key.

        Names are the files' names without their folders, so moving a data set does not
        change the key.

        Raises:
            DataError: A file is missing.
        """


class RowSource(Source):
    """Base of sources that go on behind a wrong row: they implement `read`."""

    def prompts(self) -> Iterator[Prompt]:
        for prompt in self.read():
            if isinstance(prompt, DataError):
                raise prompt
            yield prompt

    @abstractmethod
    def read(self) -> Iterator[Prompt | DataError]: ...


def hash_files(files: Iterable[Path]) -> dict[str, str]:
    """sha256 of each file, keyed by file name (two of one name are told apart by a number)."""
    hashes: dict[str, str] = {}
    for path in files:
        try:
            digest = ledger.file_sha256(path)
        except OSError as error:
            raise unreadable(path, error) from error
        name, n = path.name, 1
        while name in hashes:
            n += 1
            name = f"{path.name}#{n}"
        hashes[name] = digest
    return hashes


def unreadable(path: Path, error: OSError) -> DataError:
    """The DataError for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return DataError(path, None, "no such file", f"Check the path; it is relative to {Path.cwd()}")
    if isinstance(error, IsADirectoryError):
        return DataError(path, None, "is a folder, not a file", "Name one file in it")
    return DataError(path, None, f"cannot be read ({error.strerror or error})", "Check its permissions")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, gzipped if it is named `.gz`; a byte order mark is dropped.

    Raises:
        DataError: The file is missing, unreadable or not UTF-8.
    """
    try:
        raw = ledger.read_bytes(path)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, None, f"not gzip ({error})", "Fetch it again, or rename it") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(path, line, f"not UTF-8 (byte {error.start})", "Convert it to UTF-8") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSON Lines file with their 1-based line numbers; blank lines are skipped.

    Raises:
        DataError: The file is missing, or a line is not a JSON object.
    """
    for number, row in jsonl_rows(path):
        if isinstance(row, DataError):
            raise row
        yield number, row


def jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """As `read_jsonl`, but with the error in the place of a line that is none, and on behind it.

    Raises:
        DataError: The file can't be read.
    """
    # Only "\n" ends a line: str.splitlines() would also split inside JSON strings at U+2028.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, DataError(path, number, f"not JSON ({error})", ONE_OBJECT)
            continue
        if not isinstance(row, dict):
            yield number, DataError(path, number, f"a JSON {type(row).__name__}", ONE_OBJECT)
        elif what := _not_storable(line, row):
            yield number, DataError(path, number, what, "Correct the line")
        else:
            yield number, row


def _not_storable(line: str, row: dict[str, Any]) -> str:
    """What Python reads as JSON, and no file can hold: half a surrogate pair, NaN; else an empty string."""
    if "\\u" in line:  # only an escape can make one
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            return f"half a surrogate pair, \\u{ord(half):04x}, which is no character"
    if "NaN" in line or "Infinity" in line:
        try:
            json.dumps(row, allow_nan=False)
        except ValueError:
            return "NaN or Infinity, which is no JSON"
    return ""


def string_field(path: Path, line: int | None, row: dict[str, Any], name: str) -> str:
    """The text under `name`.

    Raises:
        DataError: It is missing or not text.
    """
    value = row.get(name)
    if isinstance(value, str):
        return value
    found = f"{name!r} is a {type(value).__name__}"
    if name not in row:
        found = f"no {name!r}, only {', '.join(map(repr, row))}"
    raise DataError(path, line, found, f"Give {name!r} as text")

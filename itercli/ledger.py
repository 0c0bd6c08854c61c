"""Files that stage keys cover by content: hashed once, watched while they are used, checked when read.

A key is made when a run is planned, and the files behind it are read when their stage comes, hours
later perhaps. A worker therefore hashes them again before the stage, and `Watch` tells whether one was
written to while the stage ran, also if it was put back afterwards: the change time that the kernel
keeps can't be set back. What is read through `read_bytes` is exact: the very bytes are hashed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from itercli.errors import IterError

# A file changed this recently may change again within the same tick of the clock.
SETTLED_NS = 2_000_000_000
# Hashes of larger files are handed on to workers, which then need not read them again.
LARGE = 1 << 24
AGAIN = "The same command again plans with what is there now"


class Changed(IterError):
    """What a stage key covers was edited after the run was planned; nothing of it may be stored."""


class Stamp(NamedTuple):
    """What tells that a file is as it was, without reading it. Times in nanoseconds."""

    size: int
    mtime: int
    ctime: int
    mode: int
    owner: int
    group: int
    links: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """From what the system says of a file."""
        return cls(
            stat.st_size,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            stat.st_nlink,
        )

    @property
    def settled(self) -> bool:
        """Whether a later change is sure to show in the times."""
        return time.time_ns() - max(self.ctime, self.mtime) > SETTLED_NS

    def only_attributes(self, now: Stamp) -> bool:
        """Whether mode, owner or links changed since, which sets the change time, and nothing was written."""
        return self[:2] == now[:2] and self[3:] != now[3:]


@dataclass
class Watch:
    """What a stage is about to use.

    Attributes:
        files: Path -> its stamp and hash (none: only watched) when it was hashed.
        exact: Those that were read through `read_bytes`, and so whatever happens to them later.
    """

    files: dict[Path, tuple[Stamp, str]] = field(default_factory=dict)
    exact: set[Path] = field(default_factory=set)

    def changed(self) -> str:
        """The first file that was written to since, in words, or an empty string."""
        for path, (stamp, digest) in list(self.files.items()):
            if path in self.exact:
                continue
            try:
                now = Stamp.of(os.stat(path))
                if now == stamp and stamp.settled:
                    continue
                if (now == stamp or stamp.only_attributes(now)) and digest in ("", _hash(path)[1]):
                    self.files[path] = (now, digest)
                    continue
                same = now.size == stamp.size and bool(digest) and _hash(path)[1] == digest
            except OSError as error:
                return f"{path} can't be read any more ({error.strerror or error})"
            except Changed:
                same = False
            return f"{path} was written to while the stage ran" + (", and put back" if same else "")
        return ""


_watch: Watch | None = None
_known: dict[Path, tuple[Stamp, str]] = {}


@contextmanager
def watching() -> Iterator[Watch]:
    """Note in a `Watch` all files that are hashed meanwhile."""
    global _watch
    before, _watch = _watch, Watch()
    try:
        yield _watch
    finally:
        _watch = before


def file_sha256(path: Path, remembered: Callable[[Stamp], str | None] = lambda stamp: None) -> str:
    """Hex sha256 of a file's content; a file that was hashed before and is unchanged is not read again.

    Args:
        remembered: Gives a hash that is known from elsewhere for a file with this stamp.

    Raises:
        OSError: The file can't be read.
        Changed: It is written to all the time.
    """
    path = _place(path)
    stamp = Stamp.of(os.stat(path))
    known = _known.get(path)
    digest = known[1] if known and known[0] == stamp else remembered(stamp)
    if digest is None:
        stamp, digest = _hash(path)
    if stamp.settled:
        _known[path] = (stamp, digest)
    if _watch is not None and not _watch.files.get(path, (stamp, ""))[1]:  # the first time counts
        _watch.files[path] = (stamp, digest)
    return digest


def watch(path: Path) -> None:
    """Have a file watched that the stage uses and the key covers otherwise than by a hash of it."""
    if _watch is not None:
        path = _place(path)
        _watch.files.setdefault(path, (Stamp.of(os.stat(path)), ""))


def read_bytes(path: Path) -> bytes:
    """The content of a file, which must be what was hashed for the stage that runs.

    Raises:
        OSError: It can't be read.
        Changed: It is not.
    """
    raw = path.read_bytes()
    path = _place(path)
    if _watch is not None and (digest := _watch.files.get(path, ("", ""))[1]):
        if hashlib.sha256(raw).hexdigest() != digest:
            raise Changed(f"{path} was edited while the stage ran; nothing of it is stored. {AGAIN}")
        _watch.exact.add(path)
    return raw


def large_files() -> dict[str, tuple[Stamp, str]]:
    """What is known of large files, to be handed on to a worker."""
    return {str(path): entry for path, entry in _known.items() if entry[0].size >= LARGE}


def take_over(files: dict[str, list]) -> None:
    """Believe what another process has hashed, as long as the files' stamps are the same."""
    for path, (stamp, digest) in files.items():
        _known.setdefault(Path(path), (Stamp(*stamp), digest))


def _place(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _hash(path: Path) -> tuple[Stamp, str]:
    for _ in range(3):
        with path.open("rb") as file:
            before = Stamp.of(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if Stamp.of(os.stat(path)) == before:
                return before, digest
    raise Changed(f"{path} is being written to; wait until that is done")

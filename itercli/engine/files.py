"""Small file operations that survive a crash at any moment."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOOKS, LOOK_SECONDS = 4, 0.01


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut.

    Raises:
        OSError: With the path and the way out where the disk is full.
    """
    make_folder(path.parent)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise explain_full_disk(error, path) from error
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented so that a person can read it."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file; None if it isn't there or is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None


def sync(path: Path) -> None:
    """Make a file's content durable; of a folder, the names in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(path: Path) -> None:
    """Make a folder durable with all that is in it, from the bottom up; links are not followed."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            if (file := Path(folder, name)).is_file() and not file.is_symlink():
                sync(file)
        sync(Path(folder))


def make_folder(path: Path) -> None:
    """Make a folder and those above it; the new names are durable."""
    new = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in new:
        sync(folder.parent)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def explain_full_disk(error: OSError, path: Path) -> OSError:
    """The same error with what to do about it, where the disk or quota is full."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return OSError(
        error.errno,
        f"no space left while writing {path}; nothing finished is lost: free some space "
        f"and run the same command again",
    )


class Locked(RuntimeError):
    """Another process holds the lock; `holder` is what it wrote about itself."""

    def __init__(self, path: Path, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{path} is held by {holder or 'another process'}")


@contextmanager
def lock(path: Path, note: str) -> Iterator[None]:
    """Hold an advisory lock; the kernel drops it with the process, however that dies.

    Raises:
        Locked: Somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        for left in reversed(range(LOOKS)):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise Locked(path, os.pread(handle, 200, 0).decode(errors="replace").strip()) from None
                time.sleep(LOOK_SECONDS)  # `is_held` of another process has it for a moment
        os.ftruncate(handle, 0)
        os.pwrite(handle, note.encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def hold(path: Path, *, shared: bool) -> Iterator[None]:
    """Hold an advisory lock, waiting for it; many can hold it `shared`, or one alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once, below
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False

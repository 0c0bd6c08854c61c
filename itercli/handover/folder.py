"""A folder to hand over: whole or not there, and without paths of this machine."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from itercli.engine.checked import Damaged, read_document, write_document
from itercli.engine.files import make_folder, sync, sync_tree
from itercli.engine.runs import RUN_FILE
from itercli.engine.shapes import Shape
from itercli.handover.versions import HandoverError

MARKER = ".itercli-export.json"  # lists what an export wrote, so that --force deletes nothing else
AT_FDCWD, RENAME_EXCHANGE = -100, 2

# Begins where no word, URL or other path goes on; ends in a name.
_PATH = re.compile(r"(?<![\w/.:~}>-])(?:~|[A-Za-z]:)?/(?:[\w.@+=-]+/)+([\w.@+=-]+)")
_NAMES = ("_name_or_path", "name_or_path")
_TEXT = (".json", ".jinja", ".md", ".txt", ".yaml")


class _Marker(Shape):
    files: list[str]


@contextmanager
def new_folder(target: Path, *, root: Path, force: bool = False) -> Iterator[Path]:
    """A scratch folder beside `target` that takes its place at the end; on an error nothing is left.

    Args:
        root: The folder of all runs, which an export must not replace or enter.
        force: Replace an earlier export. Anything else that is there stays, and is an error.

    Raises:
        HandoverError: The target can't be written, or is not ours to replace.
    """
    target = Path(os.path.realpath(target))  # of a link, the folder that it points to
    _check_place(target, root)
    for old in sorted(target.parent.glob(f".{target.name}.*.old")):
        if not os.path.lexists(target):  # killed between the two renames of `_swap`
            os.rename(old, target)
    if os.path.lexists(target):
        _check_content(target, force)
    make_folder(target.parent)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
        files = sorted(p for p in scratch.rglob("*") if p.is_file())
        write_document(scratch / MARKER, {"files": [p.relative_to(scratch).as_posix() for p in files]})
        for path in scratch.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its owner only
        sync_tree(scratch)
        _swap(scratch, target)
        sync(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_place(target: Path, root: Path) -> None:
    """Refuse folders that hold more than an export could."""
    root = Path(os.path.realpath(root))
    for place, what in (
        (Path.cwd(), "the current folder"),
        (Path(os.path.realpath(Path.home())), "the home folder"),
        (root, "the folder of runs"),
    ):
        if place.is_relative_to(target):
            raise HandoverError(
                f"--to {target} is {what}, or holds it; name a folder of its own, for example "
                "--to exports/NAME"
            )
    if target.is_relative_to(root):
        first = root / target.relative_to(root).parts[0]
        if first.name.startswith(".") or (first / RUN_FILE).exists():
            raise HandoverError(f"--to {target} lies in {first}, which belongs to runs; name another folder")


def _check_content(target: Path, force: bool) -> None:
    """Refuse what is there, unless it is empty, or an export of ours that may be replaced."""
    if target.is_dir() and not any(target.iterdir()):
        return
    if not force:
        raise HandoverError(f"{target} is there already; --force replaces it, --to DIR names another folder")
    remedy = "move or delete it yourself, or name another folder with --to DIR"
    try:
        known = read_document(target / MARKER, _Marker) if target.is_dir() else None
    except Damaged as error:
        raise HandoverError(f"{error}; {remedy}") from None
    if known is None:
        raise HandoverError(
            f"{target} is no folder that `iter export` made (it has no {MARKER}), so --force does not "
            f"replace it; {remedy}"
        )
    mine = {MARKER, *known["files"]}
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if name not in mine and (path.is_symlink() or not path.is_dir()):
            raise HandoverError(
                f"{path} was not made by `iter export`, and --force would delete it; {remedy}"
            )


def _swap(new: Path, target: Path) -> None:
    """Put a folder in another one's place; at every moment one of the two is there, or its `.old`."""
    if not os.path.lexists(target):
        os.rename(new, target)
    elif not _exchange(new, target):
        old = new.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
        os.rename(new, target)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, where the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # not Linux, or an old C library
        return False
    names = (os.fsencode(path) for path in (one, other))
    return rename(AT_FDCWD, next(names), AT_FDCWD, next(names), RENAME_EXCHANGE) == 0


def without_paths(text: str) -> str:
    """A text whose absolute paths are cut to their last part, ``.../NAME``."""
    return _PATH.sub(r".../\1", text)


def forget_origin(folder: Path) -> None:
    """Drop the local paths that libraries note in a model's JSON files."""
    for path in folder.glob("*.json"):
        if path.stat().st_size > 2**20:
            continue
        content = json.loads(path.read_text("utf-8"))
        stray = [n for n in _NAMES if isinstance(content, dict) and n in content]
        if stray:
            kept = {k: v for k, v in content.items() if k not in stray}
            path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")


def leaks(folder: Path, *places: str | Path) -> list[str]:
    """Names of the text files that hold a path of this machine.

    Args:
        places: Folders to look for, besides the home and the current one.
    """
    wanted = {str(p) for p in (Path.home(), Path.cwd(), *places) if len(Path(p).parts) > 1}
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in _TEXT):
        text = path.read_text("utf-8", errors="replace")
        if any(f"{place}/" in text or f'{place}"' in text for place in wanted):
            found.append(str(path.relative_to(folder)))
    return found

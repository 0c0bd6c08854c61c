"""A folder to hand over: whole or not there, and without paths of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from itercli.handover.versions import HandoverError

# Begins where no word, URL or other path goes on; ends in a name.
_PATH = re.compile(r"(?<![\w/.:~}>-])(?:~|[A-Za-z]:)?/(?:[\w.@+=-]+/)+([\w.@+=-]+)")
_NAMES = ("_name_or_path", "name_or_path")
_TEXT = (".json", ".jinja", ".md", ".txt", ".yaml")


@contextmanager
def new_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """A scratch folder beside `target` that takes its place at the end; on an error nothing is left.

    Raises:
        HandoverError: `target` is not an empty folder, and `force` is off.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not force:
        raise HandoverError(f"{target} is there already; --force replaces it, --to DIR names another folder")
    target = Path(os.path.abspath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch, old = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
        for path in scratch.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its owner only
        if target.exists():
            os.rename(target, old)
        os.rename(scratch, target)
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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

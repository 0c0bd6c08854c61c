"""Taking out what `itercli.engine.garbage` found, safely beside running commands.

A run that begins, or changes its plan, waits while things are taken out (`Store.in_use`), so
it plans with what is left; a run that holds its lock keeps all that its run.json names.
Taking out is renaming into the store's `.removed`: an artifact is there whole or gone,
however this process ends.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from itercli.engine.files import Locked, lock
from itercli.engine.garbage import REMOVED, Item, survey
from itercli.engine.store import LOCK, Entry, Store

CLEAN_LOCK = ".clean-lock"


def remove(
    root: Path, wanted: Collection[Item], *, keep_last: int | None = None, keep: Collection[str] = ()
) -> tuple[list[Item], list[tuple[Path, str]]]:
    """Remove what was found before, as far as it still can be removed.

    Returns:
        What was removed, and the paths that were left with the reasons.

    Raises:
        IterError: See `survey`.
        Locked: Another process is cleaning.
    """
    root = root.resolve()
    store = Store(root / ".store")
    gone: list[Item] = []
    left: list[tuple[Path, str]] = []
    if not wanted:
        return gone, left
    with lock(store.root / CLEAN_LOCK, f"process {os.getpid()}"):
        trash = store.root / REMOVED
        trash.mkdir(exist_ok=True)
        with store.alone():
            now = {(i.category, i.path): i for i in survey(root, keep_last=keep_last, keep=keep)}
            for item in wanted:
                current = now.get((item.category, item.path))
                if current is None:
                    left.append((item.path, "it is needed now, or gone"))
                    continue
                try:
                    _take_out(current, trash)
                    gone.append(current)
                except Locked as error:
                    left.append((item.path, f"in use by {error.holder or 'another process'}"))
                except OSError as error:
                    left.append((item.path, error.strerror or str(error)))
        shutil.rmtree(trash, onerror=lambda _, path, error: left.append((Path(path), str(error[1]))))
    return gone, left


def _take_out(item: Item, trash: Path) -> None:
    """Rename an item into the trash, holding the lock of the stage that writes there.

    Raises:
        Locked: A process works on it.
    """
    if item.path == trash:  # a dead process left it; it is emptied together with the rest
        return
    inside = item.path.is_relative_to(trash.parent)
    folder = item.path.with_name(item.path.name.partition(".damaged-")[0])
    if not inside or not folder.is_dir():
        _rename(item, trash)
        return
    with lock(folder / LOCK, f"process {os.getpid()}"):
        if item.category == "models":
            entry = Entry(item.path, item.path.parent.name, item.path.name)
            manifest = entry.manifest or {"files": {}}
            files = [f for f in manifest["files"] for n in item.names if Path(f).is_relative_to(n)]
            entry.remove_files(files)
        _rename(item, trash)


def _rename(item: Item, trash: Path) -> None:
    for n, path in enumerate([item.path / name for name in item.names] or [item.path]):
        target = trash / f"{item.path.name}.{os.getpid()}.{item.category}.{n}"
        while os.path.lexists(target):
            target = target.with_name(f"{target.name}+")
        try:
            os.rename(path, target)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.rmtree(path)  # logs, where the store is another disk; nothing refers to them

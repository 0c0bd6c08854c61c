"""What a folder of runs can do without (`iter clean`); `itercli.engine.removal` takes it out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from itercli.engine.references import Reference, references
from itercli.engine.shapes import Layout
from itercli.engine.store import (
    ATTEMPT,
    CHECKPOINTS,
    CLOCK,
    JOURNAL,
    META,
    MODEL,
    ORIGIN,
    Entry,
    Store,
    removed_files,
)
from itercli.errors import IterError

REMOVED = ".removed"
WORK = (CHECKPOINTS, JOURNAL, META, ORIGIN, CLOCK, ATTEMPT)
CATEGORIES = {
    "unreferenced": "artifacts that no run refers to",
    "models": "model files of earlier iterations; rows, metrics and manifests stay",
    "damaged": "artifacts that were set aside because a check failed",
    "leftovers": "checkpoints and journals of finished stages, temporary files of killed processes",
    "logs": "workers' logs of earlier attempts",
}


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be removed.

    Attributes:
        category: One of `CATEGORIES`.
        path: The folder.
        size: Bytes that this frees.
        names: What in the folder; empty: all of it.
        run: Name of the run that it belongs to, if it is one run's.
    """

    category: str
    path: Path
    size: int
    why: str
    names: tuple[str, ...] = ()
    run: str | None = None


def survey(root: Path, *, keep_last: int | None = None, keep: Collection[str] = ()) -> list[Item]:
    """All that could be removed from a folder of runs.

    Args:
        keep_last: Keep model files of so many of the newest iterations of each run; None: of all.
        keep: Keys of models to keep besides.

    Raises:
        IterError: It can't be known what runs refer to.
    """
    root = root.resolve()
    store = Store(root / ".store")
    if store.root.is_symlink():
        raise IterError(
            f"{store.root} is a link to {store.root.resolve()}: runs of other folders may use that store, "
            f"so nothing is removed from it"
        )
    runs = references(root)
    named = {key for r in runs for key in r.keys | r.words}
    items = list(_removed(store))
    for entry in _entries(store):
        key, _, aside = entry.key.partition(".damaged-")
        if aside:
            items.append(Item("damaged", entry.path, size_of(entry.path), f"set aside {aside}"))
        elif key not in named:
            items.append(Item("unreferenced", entry.path, size_of(entry.path), _state(entry)))
        elif found := _leftovers(entry):
            items.append(_part("leftovers", entry.path, found, "of a finished or killed stage"))
    if keep_last is not None:
        items += _models(store, runs, keep_last, keep)
    for r in runs:
        items += _of_run(r)
    return items


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        with suppress(FileNotFoundError):
            return path.lstat().st_size
        return 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _entries(store: Store) -> Iterator[Entry]:
    """All folders of artifacts, those set aside included; links are left alone."""
    for kind in sorted(store.root.glob("[!.]*")):
        if kind.is_dir() and not kind.is_symlink():
            for path in sorted(kind.glob("[!.]*")):
                if path.is_dir() and not path.is_symlink():
                    yield Entry(path, kind.name, path.name)


def _removed(store: Store) -> Iterator[Item]:
    path = store.root / REMOVED
    if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
        names = tuple(sorted(p.name for p in path.iterdir()))
        yield Item("leftovers", path, size_of(path), "left by an `iter clean` that was killed", names)


def _state(entry: Entry) -> str:
    if entry.broken:
        return "damaged"
    manifest = entry.manifest
    return f"finished {manifest['finished']}" if manifest else "not finished"


def _part(category: str, path: Path, names: list[str], why: str, run: str | None = None) -> Item:
    return Item(category, path, sum(size_of(path / n) for n in names), why, tuple(names), run)


def _leftovers(entry: Entry) -> list[str]:
    """Names of what nobody reads any more in an artifact's folder."""
    found = [str(p.relative_to(entry.path)) for p in entry.path.rglob("*") if _temporary(p.name)]
    manifest = entry.manifest
    if manifest is not None:
        found = [n for n in found if not n.startswith(CHECKPOINTS)]
        found += [n for n in WORK if os.path.lexists(entry.path / n)]
        if removed_files(manifest):  # the files were about to follow
            found += _own_places(entry)
    return found


def _temporary(name: str) -> bool:
    return name.startswith(".") and (name.endswith(".tmp") or name.startswith(".tmp-step-"))


def _of_run(reference: Reference) -> Iterator[Item]:
    run = reference.run
    if run.path.is_symlink() or (run.path / "logs").is_symlink():
        return
    attempts = [p for p in run.path.glob("logs/attempt-*") if p.is_dir() and not p.is_symlink()]
    attempts.sort(key=lambda p: int(n) if (n := p.name[8:]).isdigit() else -1)
    for path in attempts[:-1]:
        yield Item("logs", path, size_of(path), "not of the newest attempt", run=run.name)
    temporary = [p.name for p in run.path.iterdir() if _temporary(p.name)]
    if temporary and not run.held:
        yield _part("leftovers", run.path, temporary, "of a killed process", run.name)


def _models(store: Store, runs: list[Reference], keep_last: int, keep: Collection[str]) -> Iterator[Item]:
    """Models that neither the newest iterations nor an unfinished stage of any run needs."""
    needed = {*keep, *(word for r in runs for word in r.words)}
    makers: dict[str, tuple[str, str]] = {}
    for r in runs:
        models = {i: place for i, place in r.nodes.items() if place["kind"] == "model"}
        done = {i for i, place in r.nodes.items() if store.entry(place["kind"], place["key"]).manifest}
        by_name: dict[str, list[str]] = {}
        for i, place in models.items():
            makers.setdefault(place["key"], (r.run.name, i))
            if i in done:
                by_name.setdefault(i.partition("/")[2], []).append(place["key"])
            if r.run.held:
                needed.add(place["key"])
        for keys in by_name.values():
            needed.update(keys[-keep_last:])
        for i in r.nodes.keys() - done:
            needed.update(models[n]["key"] for n in r.nodes[i].get("needs", ()) if n in models)
    # A stage without examples keeps the model that it began with, in that one's artifact.
    for key in list(needed):
        entry = store.entry("model", key)
        if entry.sealed() is not None:
            entry.file(MODEL)  # where it isn't known which model that is, nothing may go
        needed.update(place.split("/")[1] for place in _places(entry))
    for key, (run, node) in makers.items():
        entry = store.entry("model", key)
        names = _own_places(entry)
        if key not in needed and names and entry.manifest:
            yield _part("models", entry.path, names, f"{node}, not among the newest {keep_last}", run)


def _places(entry: Entry) -> list[str]:
    """Where a model's files are, relative to the store; without start models, which lie elsewhere."""
    layout = entry.json(MODEL, Layout) or {}
    return [layout[part] for part in ("base", "adapter") if layout.get(part)]


def _own_places(entry: Entry) -> list[str]:
    """Folders in the artifact that hold its model, as far as they are there."""
    own = [os.path.relpath(p, f"{entry.kind}/{entry.key}") for p in _places(entry)]
    return [n for n in own if not n.startswith("..") and n != "." and (entry.path / n).exists()]

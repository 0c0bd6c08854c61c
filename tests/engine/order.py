"""Records in which order files are synced, renamed and deleted in this process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest


class Order:
    """The operations so far, each with the path that it is about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, Path]] = []
        self._patch = monkeypatch
        self._watch("sync", os, "fsync", lambda handle: Path(os.readlink(f"/proc/self/fd/{handle}")))
        self._watch("rename", os, "replace", lambda old, new, **_: Path(new))
        self._watch("rename", os, "rename", lambda old, new, **_: Path(new))
        self._watch("delete", shutil, "rmtree", lambda path, *_, **__: Path(path))

    def _watch(self, what: str, module: Any, name: str, path_of: Any) -> None:
        real = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            path = path_of(*args, **kwargs)
            result = real(*args, **kwargs)
            self.steps.append((what, path))
            return result

        self._patch.setattr(module, name, watched)

    def at(self, what: str, path: Path) -> int:
        """When it was last done; fails where it never was."""
        found = [n for n, step in enumerate(self.steps) if step == (what, path)]
        assert found, f"no {what} of {path}"
        return found[-1]

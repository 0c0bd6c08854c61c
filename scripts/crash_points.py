"""Ends a run at one of its syncs or renames, for scripts/crash_test.py.

A `sitecustomize` module in the processes of the run counts `os.fsync`, `os.replace` and
`os.rename` over all of them, and signals the whole process group just before or after the N-th.
"""

from __future__ import annotations

import os
from pathlib import Path

HOOK = """
import os

def watch(name, kind):
    real = getattr(os, name)

    def watched(*args, **kwargs):
        handle = os.open(os.environ["CRASH_COUNTER"] + kind, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, b".")
        number = os.fstat(handle).st_size
        os.close(handle)
        at = int(os.environ["CRASH_AT"]) if kind == os.environ["CRASH_KIND"] else 0
        signum = int(os.environ["CRASH_SIGNAL"])
        if number == abs(at) and at < 0:
            os.killpg(0, signum)
        result = real(*args, **kwargs)
        if number == at:
            os.killpg(0, signum)
        return result

    setattr(os, name, watched)

watch("fsync", "fsync")
watch("replace", "rename")
watch("rename", "rename")
"""


KINDS = ("fsync", "rename")


class Points:
    """The syncs and renames of one attempt.

    Args:
        folder: For the hook and the counters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sitecustomize.py").write_text(HOOK)

    def environment(self, kind: str = "", at: int = 0, signum: int = 0) -> dict[str, str]:
        """Environment of an attempt that is to be signalled.

        Args:
            kind: One of `KINDS`.
            at: After which operation of the kind; negative: before it; 0: never.
        """
        for name in KINDS:
            self._counter(name).write_bytes(b"")
        path = os.pathsep.join(p for p in (str(self.folder), os.environ.get("PYTHONPATH", "")) if p)
        return {
            **os.environ,
            "PYTHONPATH": path,
            "CRASH_COUNTER": str(self._counter("")),
            "CRASH_KIND": kind,
            "CRASH_AT": str(at),
            "CRASH_SIGNAL": str(int(signum)),
        }

    @property
    def counts(self) -> dict[str, int]:
        """Operations so far, by kind."""
        return {kind: self._counter(kind).stat().st_size for kind in KINDS}

    def _counter(self, kind: str) -> Path:
        return self.folder / f"counter-{kind}"

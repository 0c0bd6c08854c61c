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
        handle = os.open(os.environ["CRASH_COUNTER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, kind)
        number = os.fstat(handle).st_size
        os.close(handle)
        at, signum = int(os.environ["CRASH_AT"]), int(os.environ["CRASH_SIGNAL"])
        if number == abs(at) and at < 0:
            os.killpg(0, signum)
        result = real(*args, **kwargs)
        if number == at:
            os.killpg(0, signum)
        return result

    setattr(os, name, watched)

watch("fsync", b"f")
watch("replace", b"r")
watch("rename", b"r")
"""


class Points:
    """The syncs and renames of one attempt.

    Args:
        folder: For the hook and the counter.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counter = folder / "counter"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sitecustomize.py").write_text(HOOK)

    def environment(self, at: int, signum: int) -> dict[str, str]:
        """Environment of an attempt that is to be signalled.

        Args:
            at: After which operation; negative: before it; 0: never.
        """
        self.counter.write_bytes(b"")
        path = os.pathsep.join(p for p in (str(self.folder), os.environ.get("PYTHONPATH", "")) if p)
        return {
            **os.environ,
            "PYTHONPATH": path,
            "CRASH_COUNTER": str(self.counter),
            "CRASH_AT": str(at),
            "CRASH_SIGNAL": str(int(signum)),
        }

    @property
    def count(self) -> int:
        """Operations so far."""
        return self.counter.stat().st_size

    def name(self, at: int) -> str:
        """The operation in words: `before fsync 17`."""
        kind = {b"f": "fsync", b"r": "rename"}[self.counter.read_bytes()[abs(at) - 1 : abs(at)]]
        return f"{'after' if at > 0 else 'before'} {kind} {abs(at)}"

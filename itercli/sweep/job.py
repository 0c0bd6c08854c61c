"""What a launcher calls for each point: start its process, stop it in order, write down its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine.checked import read_document_or, write_document
from itercli.engine.devices import gpu_count
from itercli.engine.files import Locked, lock
from itercli.engine.parent import die_with_parent
from itercli.engine.shapes import Shape
from itercli.sweep.record import find_sweep

POLL_SECONDS = 0.2
STOP = "stop"  # file of an attempt that holds the number of the signal


def stop_signal(attempt: Path) -> int:
    """The signal that the sweep got in this attempt, or 0."""
    found = read_document_or(attempt / STOP, _Stop, "the points go on")
    return int(found.get("signal", 0))


class _Stop(Shape):
    signal: int


@dataclass(frozen=True)
class Job:
    """What the launcher calls for each point, here or in another process; it is pickled.

    Attributes:
        attempt: Folder of this attempt at the sweep.
        owner: The sweep's process that the point ends with; 0: it goes on without.
        plain: Plain lines instead of a live display.
        told: Called when the point begins and ends, where it has the terminal for itself; else the
            point's output goes to a file.
    """

    attempt: Path
    owner: int
    plain: bool = False
    told: Callable[[], None] | None = None

    def __call__(self, config: Any) -> None:
        """Run the point that is the run `config.point` to its end."""
        sweep = find_sweep(self.attempt.parents[2], self.attempt.parent.name)
        run = str(config.point)
        if self.owner not in (0, os.getpid()):
            self._become_dependent()
        if self._signal():
            return
        result = self.attempt / f"{run}.json"
        begun = {"begun": time.time()}
        write_document(result, begun)
        self._tell()
        code = self._supervise(run, sweep.folder)
        write_document(result, {**begun, "ended": time.time(), "code": code})
        self._tell()

    def _supervise(self, run: str, folder: str) -> int:
        with ExitStack() as stack:
            log = None if self.told else stack.enter_context(open(self.attempt / f"{run}.log", "ab"))
            env = {**os.environ, "PYTHONUNBUFFERED": "1"}
            if self.owner not in (0, os.getpid()):
                env |= stack.enter_context(_own_gpu(self.attempt.parents[1]))
            command = [sys.executable, "-m", "itercli.sweep.child", str(self.attempt.parent), run]
            process = subprocess.Popen(
                command + ["--plain"] * self.plain, cwd=folder, env=env, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT if log else None,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            told = False
            while True:
                try:
                    code = process.wait(POLL_SECONDS)
                    return code if code >= 0 else 128 - code
                except subprocess.TimeoutExpired:
                    signum = self._signal()
                    if signum and not told:
                        process.send_signal(signum)
                        told = True

    def _become_dependent(self) -> None:
        """This is a process of joblib's: it and its point end with the sweep, which alone hears signals."""
        die_with_parent()
        if os.getppid() != self.owner:  # killed before the line above
            os._exit(1)
        # Ctrl-C reaches the whole group. Ignoring it would be inherited: the point must hear it.
        signal.signal(signal.SIGINT, lambda *_: None)

    def _signal(self) -> int:
        """The signal that the sweep got, or 0."""
        return stop_signal(self.attempt)

    def _tell(self) -> None:
        if self.told:
            self.told()


@contextmanager
def _own_gpu(folder: Path) -> Iterator[dict[str, str]]:
    """Environment that gives a point one of several GPUs, if one is free of other points."""
    if gpu_count() < 2:
        yield {}
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpu_count())))
    with ExitStack() as stack:
        for name in visible.split(","):
            try:
                stack.enter_context(lock(folder / f".gpu-{name.strip()}.lock", f"process {os.getpid()}"))
            except Locked:
                continue
            yield {"CUDA_VISIBLE_DEVICES": name.strip()}
            return
        yield {}

"""The engine's side of a worker process: start it, talk to it, know why it died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from itercli.engine.memory import explain, limits
from itercli.engine.sandbox import chosen

TAIL_LINES = 15
GRACE_SECONDS = 5.0


class WorkerDied(RuntimeError):
    """A worker ended without having been asked to; the message says all that is known."""


class WorkerProcess:
    """One child process.

    Attributes:
        node: Id of the node that it is running, or None.
        heard: Monotonic time of its last message.
    """

    def __init__(self, kind: str, log: Path, python: str = sys.executable, sandbox: str = "auto") -> None:
        self.kind = kind
        self.log = log
        self.node: str | None = None
        self.heard = time.monotonic()
        self.peak = 0
        self._buffer = b""
        child_in, self._to = os.pipe()
        self.fd, child_out = os.pipe()
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as sink:
            self.process = subprocess.Popen(
                [python, "-m", "itercli.worker", str(child_in), str(child_out)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=(child_in, child_out),
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "TOKENIZERS_PARALLELISM": "false",
                    "ITER_SANDBOX": chosen(sandbox),
                },
            )
        os.close(child_in)
        os.close(child_out)
        os.set_blocking(self.fd, False)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; a dead worker is noticed when its pipe is read."""
        data = json.dumps(message).encode() + b"\n"
        with suppress(BrokenPipeError):
            while data:  # a signal can cut a write of more than the pipe holds
                data = data[os.write(self._to, data) :]

    def receive(self) -> list[dict[str, Any]] | None:
        """All complete messages that have arrived; None if the worker has closed its end."""
        closed = False
        while True:
            try:
                chunk = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                closed = True
                break
            self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        if lines:
            self.heard = time.monotonic()
        messages = [json.loads(line) for line in lines]
        return None if closed and not messages else messages

    def watch(self) -> None:
        """Note the worker's peak memory (it can't be asked once it is dead)."""
        try:
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)
        except (OSError, ValueError):
            pass  # gone, or not Linux

    def close(self) -> None:
        """Ask the worker to end and wait; a worker that doesn't is killed."""
        self.send({"cmd": "close"})
        try:
            self.process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._release()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def dump_stacks(self) -> None:
        """Have it write where its threads are to its log."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)

    def died(self) -> WorkerDied:
        """What to report about a worker that is gone."""
        code = self.process.wait()
        self._release()
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += " (nobody here sent it: most often the kernel, out of memory)"
        else:
            how = f"ended with exit code {code}"
        return WorkerDied(self.report(f"the {self.kind} worker {how}"))

    def report(self, what: str) -> str:
        """`what` with the worker's peak memory, the machine's memory, log path and last lines."""
        import psutil

        memory = psutil.virtual_memory()
        gib = 2**30
        lines = [
            f"{what}; its peak memory was {self.peak / gib:.1f} GiB, the machine has "
            f"{memory.total / gib:.1f} GiB with {memory.available / gib:.1f} GiB free now",
            f"log: {self.log}",
        ]
        try:
            text = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError:
            text = []
        if limit := explain("\n".join(text)) or limits():
            lines.insert(1, limit)
        return "\n".join([*lines, *(f"  | {line}" for line in text)])

    def _release(self) -> None:
        for fd in (self.fd, self._to):
            if fd >= 0:
                os.close(fd)
        self.fd = self._to = -1

"""The sandbox's helper processes: started when needed, reused, ended with this program."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from itercli.engine import sandbox_server as server
from itercli.errors import IterError

Isolation = Literal["namespaces", "bubblewrap", "limits"]
IDLE = 64  # idle servers kept per kind
GRACE = 15.0  # seconds a server may take beyond the job's own limit


class SandboxError(IterError):
    """The sandbox itself failed; says nothing about the guest."""


@dataclass(frozen=True)
class Kind:
    """What a server is set up for; servers of one kind are interchangeable."""

    isolation: Isolation
    scratch: str
    readable: tuple[str, ...]
    network: bool


class Server:
    """One helper process; used by one thread at a time."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", server.__file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        self.socket = ours
        try:
            ours.settimeout(GRACE)
            setup = {
                "isolation": kind.isolation,
                "scratch": kind.scratch,
                "parent": os.getpid(),
                "readable": list(kind.readable),
                "network": kind.network,
            }
            answer = self._ask(setup)[0]
        except BaseException:
            self.kill()
            raise
        if answer["error"]:
            self.kill()
            raise SandboxError(answer["error"])
        self.guest = int(answer["guest"])

    def _ask(self, header: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        try:
            server.send(self.socket, header, body)
            answer = server.receive(self.socket)
        except OSError as error:
            raise SandboxError(f"sandbox server: {error}") from error
        if answer is None:
            raise SandboxError("the sandbox server ended unexpectedly")
        return answer

    def run(self, job: dict[str, Any], stdin: bytes, wall: float) -> tuple[dict[str, Any], bytes]:
        """Run a job; the answer must name it by a word that no guest can know.

        Raises:
            SandboxError: The sandbox failed, or this is not the job's answer.
        """
        self.socket.settimeout(wall + GRACE)
        name = secrets.token_hex(16)
        header, body = self._ask({**job, "id": name}, stdin)
        if not secrets.compare_digest(str(header.get("id", "")), name):
            raise SandboxError("the sandbox server gave the result of another program")
        if header["error"]:
            raise SandboxError(f"sandbox ({self.kind.isolation}): {header['error']}")
        return header, body

    def leave(self) -> None:
        with contextlib.suppress(OSError):
            server.send(self.socket, {})
        self.socket.close()

    def kill(self) -> None:
        # Closing the socket makes the server end its guest; the signal is for one that hangs.
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        self.process.kill()
        self.process.wait()


class Pool:
    """Idle servers by kind, and the scratch folder that guests may write to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: dict[Kind, list[Server]] = {}
        self.base: str | None = None

    def scratch(self) -> str:
        with self.lock:
            if self.base is None:
                self.base = os.path.realpath(tempfile.mkdtemp(prefix="itercli-sandbox-"))
                os.chmod(self.base, 0o711)  # guests of a root program pass through
            return self.base

    @contextlib.contextmanager
    def server(self, kind: Kind, *, keep: bool) -> Iterator[Server]:
        with self.lock:
            waiting = self.idle.get(kind)
            taken = waiting.pop() if waiting else None
        if taken is None or taken.process.poll() is not None:
            taken = Server(kind)
        try:
            yield taken
        except BaseException:
            taken.kill()  # whatever it was doing, its answer must not reach the next caller
            raise
        with self.lock:
            waiting = self.idle.setdefault(kind, [])
            if keep and len(waiting) < IDLE:
                waiting.append(taken)
                return
        taken.leave()
        taken.process.wait()

    def close(self) -> None:
        with self.lock:
            servers = [s for waiting in self.idle.values() for s in waiting]
            self.idle.clear()
            base, self.base = self.base, None
        for one in servers:
            one.leave()
        for one in servers:
            one.kill()
        if base is not None:
            remove(base)


def hand_over(folder: str, guest: int) -> None:
    """Make a folder and what is in it the guest's."""
    os.chown(folder, guest, guest)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(root, name), guest, guest, follow_symlinks=False)


def remove(folder: str) -> None:
    """Remove a folder that a guest has written to."""

    def retry(function: object, path: str, _: object) -> None:
        with contextlib.suppress(OSError):  # the guest may have taken our rights to its folders away
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700, follow_symlinks=False) if not os.path.islink(path) else None
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    shutil.rmtree(folder, onerror=retry)

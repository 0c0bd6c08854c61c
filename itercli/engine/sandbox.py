"""Runs untrusted programs within limits.

`run` starts a program the way `subprocess.run` does, but as a guest: own session, time,
memory, file-size and output limits, and everything that it started is killed when it ends
or its time is up. Calls may come from many threads; each takes an idle *sandbox server* (a
small helper process, `sandbox_server`) from a pool, so a call costs about a millisecond
and never forks this program.

What holds where (`isolation()` tells which):

* ``namespaces`` (Linux where unprivileged user namespaces work). Guests see /usr, /lib and
  the like, the folders named as `readable`, all read-only, and the scratch folder of this
  program; not the home folder, /etc, /proc or other programs' temporary files. They have
  no network, cannot see or signal other processes, hold no capabilities, and none survives
  its run, not even one that left its session. If this program runs as root, guests are
  nobody, and folders of `tempdir` are handed to them.
* ``limits`` (elsewhere). The same limits, but a guest runs with the user's own rights: it
  can read the user's files and use the network. Strays are found on Linux even in other
  sessions; elsewhere only those in the guest's own process group are.

Not guaranteed anywhere: memory, CPU and file-size limits are per process (their number is
limited too, with namespaces exactly, else roughly); the number of files written into the
scratch folder is not limited; guests of one program share a user, so while they run at the
same time they may see each other's scratch files; a bug in the kernel is not contained.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine.sandbox_pool import Isolation, Kind, Pool, SandboxError, hand_over, remove

__all__ = ["Isolation", "Limits", "Result", "SandboxError", "isolation", "isolation_reason", "run", "tempdir"]


@dataclass(frozen=True)
class Limits:
    """What a guest may use.

    Attributes:
        wall: Seconds from start to end.
        cpu: Seconds of processor time, per process.
        memory: Bytes of address space, per process; None for no limit.
        file: Largest file it may write, in bytes; also bounds stdout and stderr.
        output: Bytes of stdout and of stderr that are kept.
        processes: Processes and threads at once.
        open_files: Open descriptors, per process.
    """

    wall: float = 30.0
    cpu: int = 30
    memory: int | None = 1 << 30
    file: int = 1 << 20
    output: int = 1 << 20
    processes: int = 64
    open_files: int = 256


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        returncode: Exit code, or minus the signal's number.
        timed_out: The wall limit was reached.
        reason: "exit", "wall-time", "cpu-time", "file-size" or "signal NAME".
        seconds: Wall time.
        truncated: Output was cut at a limit.
        isolation: Which guarantees held.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    reason: str
    seconds: float
    truncated: bool
    isolation: Isolation


_pool = Pool()


def _forget() -> None:
    """In a forked child: the servers belong to the parent."""
    global _pool
    _pool = Pool()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _pool.close())


@functools.cache
def _probe() -> tuple[Isolation, str]:
    wanted = os.environ.get("ITER_SANDBOX", "auto")
    if wanted not in ("auto", "namespaces", "limits"):
        raise SandboxError(f"ITER_SANDBOX={wanted!r}; one of auto, namespaces, limits")
    if wanted == "limits":
        return "limits", "ITER_SANDBOX=limits"
    if not sys.platform.startswith("linux"):
        return "limits", f"no namespaces on {sys.platform}"
    try:
        with tempdir() as folder:
            argv = ["/bin/sh", "-c", "exit 42"]
            done = run(argv, cwd=folder, limits=Limits(wall=5), isolation="namespaces")
        why = "" if done.returncode == 42 else f"a test program ended with {done.returncode}"
    except (SandboxError, OSError) as error:
        why = str(error)
    if why and wanted == "namespaces":
        raise SandboxError(f"ITER_SANDBOX=namespaces, but they do not work here: {why}")
    return ("limits", why) if why else ("namespaces", "")


def isolation() -> Isolation:
    """The guarantees that hold on this system; found out once.

    The environment variable ITER_SANDBOX (auto, namespaces, limits) overrides: with
    "namespaces" it is an error if they do not work.

    Raises:
        SandboxError: ITER_SANDBOX asks for what there is not.
    """
    return _probe()[0]


def isolation_reason() -> str:
    """Why namespaces are not used; empty if they are."""
    return _probe()[1]


@contextlib.contextmanager
def tempdir() -> Iterator[Path]:
    """A private folder for one guest to run in, removed with all it holds on leaving.

    Runs whose `cwd` lies in such a folder are the fast ones. If this program is killed, the
    servers remove what is left.
    """
    folder = tempfile.mkdtemp(dir=_pool.scratch())
    try:
        yield Path(folder)
    finally:
        remove(folder)


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: str | os.PathLike[str],
    limits: Limits | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    network: bool = False,
    readable: Sequence[str | os.PathLike[str]] = (),
    isolation: Isolation | None = None,
) -> Result:
    """Run a program to its end as a guest.

    Args:
        argv: Program and arguments; a bare name is looked up in `env`'s PATH.
        cwd: The only folder that it may write to (with namespaces); best one of `tempdir`,
            any other costs a new server and must be open to the guest, who is nobody if this
            program runs as root.
        limits: `Limits()` if not given.
        stdin: What it reads.
        env: Its whole environment; by default PATH of the system, TMPDIR and HOME = `cwd`.
        network: Let it use the network.
        readable: What it may read besides the system's programs, e.g. a tool's folder.
        isolation: Ask for one kind instead of the best.

    Raises:
        SandboxError: The sandbox failed.
        OSError: The program cannot be started (missing, not executable).
    """
    limits = limits or Limits()
    kind_of = isolation or _probe()[0]
    folder = os.path.realpath(cwd)
    base = _pool.scratch()
    inside = folder == base or folder.startswith(base + os.sep)
    # Without namespaces there is nothing to set up per folder, so one kind serves all.
    extra = tuple(os.fspath(p) for p in readable) if kind_of == "namespaces" else ()
    kind = Kind(kind_of, base if inside or kind_of == "limits" else folder, extra, network)
    if env is None:
        path = "/usr/local/bin:/usr/bin:/bin"
        env = {"PATH": path, "TMPDIR": folder, "HOME": folder, "LC_ALL": "C.UTF-8"}
    job = {
        "argv": [os.fspath(a) for a in argv],
        "cwd": folder,
        "env": dict(env),
        "wall": limits.wall,
        "cpu": limits.cpu,
        "memory": limits.memory,
        "file": limits.file,
        "output": limits.output,
        "open_files": limits.open_files,
        "processes": limits.processes,
    }
    with _pool.server(kind, keep=kind.scratch == base) as one:
        if inside and one.guest != os.geteuid():
            hand_over(folder, one.guest)
        header, body = one.run(job, stdin, limits.wall)
    if header["errno"]:
        raise OSError(header["errno"], os.strerror(header["errno"]), str(argv[0]))
    return _result(header, body, limits, kind_of)


def _result(header: dict[str, Any], body: bytes, limits: Limits, kind: Isolation) -> Result:
    code, split = header["status"], header["stdout"]
    timed_out, truncated = bool(header["timed_out"]), bool(header["truncated"])
    if timed_out:
        reason = "wall-time"
    elif code == -signal.SIGXCPU or (code == -signal.SIGKILL and header["cpu"] >= limits.cpu):
        reason = "cpu-time"
    elif code == -signal.SIGXFSZ:
        reason = "file-size"
    else:
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else "exit"
    return Result(
        returncode=code,
        stdout=body[:split],
        stderr=body[split:],
        timed_out=timed_out,
        reason=reason,
        seconds=header["seconds"],
        truncated=truncated,
        isolation=kind,
    )

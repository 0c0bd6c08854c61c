"""Runs untrusted programs within limits.

`run` starts a program the way `subprocess.run` does, but as a guest: own session, time,
memory, file-size and output limits, and everything that it started is killed when it ends
or its time is up. Calls may come from many threads; each takes an idle *sandbox server* (a
small helper process, `sandbox_server`) from a pool, so a call costs about a millisecond
and never forks this program.

What holds where (`isolation()` tells which):

* ``namespaces`` (Linux where unprivileged user namespaces work). Guests see /usr, /lib and
  the like, the folders named as `readable`, all read-only, and their own folder; not the
  home folder, /etc, /proc or other guests' folders. They have no network, cannot see or
  signal other processes, hold no capabilities, and none survives its run, not even one that
  left its session. If this program runs as root, guests are nobody, and folders of
  `tempdir` are handed to them.
* ``bubblewrap`` (Linux where the program bwrap works: some systems let it make namespaces
  and nobody else). The same, a few milliseconds slower.
* ``limits`` (elsewhere). The same limits, but a guest runs with the user's own rights; if
  this program runs as root, with those of a user id that nothing else has. Linux's Landlock,
  where there is one, shows it the same files as above, bars it from TCP and from signalling
  or tracing other processes. Without Landlock it can read the user's files and use the
  network. Strays are found on Linux even in other sessions; elsewhere only those in the
  guest's own process group are.

No guest inherits a descriptor besides its standard three, and each result bears a secret
name of its job, so no guest speaks for another.

Not guaranteed anywhere: memory, CPU and file-size limits are per process (their number is
limited too, with namespaces exactly, else roughly); the number of files written into the
scratch folder is not limited; with neither namespaces, Landlock nor root, guests that run at
the same time may change each other's files; a bug in the kernel is not contained.
docs/security.md has the whole of it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine import sandbox_landlock
from itercli.engine.sandbox_pool import Isolation, Kind, Pool, SandboxError, hand_over, remove

__all__ = [
    "Isolation",
    "Limits",
    "Result",
    "SandboxError",
    "chosen",
    "isolation",
    "isolation_reason",
    "rights",
    "run",
    "tempdir",
    "warning",
]


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


WISHES: dict[str, tuple[Isolation, ...]] = {
    "auto": ("namespaces", "bubblewrap", "limits"),
    "isolated": ("namespaces", "bubblewrap"),
    "namespaces": ("namespaces",),
    "bubblewrap": ("bubblewrap",),
    "limits": ("limits",),
}
FULL_LANDLOCK = 6  # the first version that also holds back signals
WAY_OUT = (
    "Allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 or "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container, its seccomp profile), install "
    "bubblewrap, or run as a user who may do nothing else"
)


@functools.cache
def _probe(wish: str) -> tuple[Isolation, str]:
    """What works of what is wished for, and why nothing better does."""
    if wish not in WISHES:
        raise SandboxError(f"no sandbox is called {wish!r} (ITER_SANDBOX); one of {', '.join(WISHES)}")
    why: list[str] = []
    for kind in WISHES[wish]:
        try:
            if kind != "limits" and not sys.platform.startswith("linux"):
                raise SandboxError(f"Linux only, this is {sys.platform}")
            with tempdir() as folder:
                done = run(["/bin/sh", "-c", "exit 42"], cwd=folder, limits=Limits(wall=5), isolation=kind)
            if done.returncode == 42:
                return kind, "; ".join(why) if kind == "limits" else ""
            why.append(f"{kind}: a test program ended with {done.returncode}")
        except (SandboxError, OSError) as error:
            why.append(f"{kind}: {error}")
    raise SandboxError(f"no sandbox of the kind {wish!r} works here ({'; '.join(why)}). {WAY_OUT}")


def chosen(wish: str = "auto") -> str:
    """What is looked for: ITER_SANDBOX, or where that leaves it open what a recipe wishes."""
    own = os.environ.get("ITER_SANDBOX", "auto")
    return wish if own == "auto" else own


def isolation(wish: str = "auto") -> Isolation:
    """The guarantees that hold on this system; found out once.

    Args:
        wish: What a recipe asks for at least. auto is the first that works of namespaces,
            bubblewrap and limits; isolated is one of the first two; or one of the three by
            name. The environment variable ITER_SANDBOX, the user's own, takes the same words
            and comes first.

    Raises:
        SandboxError: It doesn't work here, or ITER_SANDBOX asks for less than the recipe.
    """
    found = _probe(chosen(wish))[0]
    if found not in WISHES[wish]:
        raise SandboxError(
            f"the recipe asks for {wish!r}, but ITER_SANDBOX={chosen()} gives {found!r}; unset it"
        )
    return found


def isolation_reason(wish: str = "auto") -> str:
    """Why guests aren't isolated; empty if they are."""
    return "ITER_SANDBOX=limits" if chosen() == "limits" else _probe(chosen(wish))[1]


def rights() -> str:
    """What guests may do where they are not isolated, in words."""
    who = "a user id without rights" if os.geteuid() == 0 else "your own user"
    known = sandbox_landlock.version()
    if known >= FULL_LANDLOCK:
        return f"run as {who}; Landlock keeps them from other files and processes, and from TCP"
    held = (
        "Landlock keeps them from other files" if known else "they read what it can read, and use the network"
    )
    return f"run as {who}; {held}"


def warning(wish: str = "auto") -> str:
    """A line for a run whose guests are not isolated; empty if they are.

    Raises:
        SandboxError: As of `isolation`.
    """
    if isolation(wish) != "limits":
        return ""
    return (
        f"programs under test are limited, not isolated: they {rights()} ({isolation_reason(wish)}). "
        f"executor.sandbox=isolated refuses that"
    )


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
            any other costs a new server and must be open to the guest, who is somebody else if
            this program runs as root.
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
    kind_of = isolation or _probe(chosen())[0]
    folder = os.path.realpath(cwd)
    base = _pool.scratch()
    inside = folder == base or folder.startswith(base + os.sep)
    shown = tuple(os.fspath(p) for p in readable)
    if kind_of == "namespaces":
        kind = Kind(kind_of, base if inside else folder, shown, network)
    else:  # there is nothing to set up once for all jobs, so one kind serves them all
        kind = Kind(kind_of, base, (), False)
    if env is None:
        path = "/usr/local/bin:/usr/bin:/bin"
        env = {"PATH": path, "TMPDIR": folder, "HOME": folder, "LC_ALL": "C.UTF-8"}
    job: dict[str, Any] = {
        "isolation": kind_of,
        "bubblewrap": _bubblewrap() if kind_of == "bubblewrap" else "",
        "readable": shown,
        "network": network,
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
        there = shutil.which(job["argv"][0], path=env.get("PATH"))
        if there and kind_of != "namespaces" and one.guest != os.geteuid():
            raise SandboxError(
                f"{there} is not open to user id {one.guest}, as which root starts programs here: install it "
                f"where all users can read (not below /root), allow namespaces, or do not run as root"
            )
        raise OSError(header["errno"], os.strerror(header["errno"]), str(argv[0]))
    return _result(header, body, limits, kind_of)


def _bubblewrap() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError("the program bwrap is not here (apt install bubblewrap, dnf install bubblewrap)")
    return found


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

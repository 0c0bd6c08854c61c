"""The process that starts untrusted programs; run as a script by `itercli.engine.sandbox`.

It is small and single-threaded on purpose: forking it is cheap and safe, where forking the
program that asks (many threads, perhaps gigabytes of memory) is neither. It enters its
namespaces once and then runs one job after the other, so a job costs a fork and an exec.
With namespaces there are two processes: a *watcher* outside and the *server*, which is
process 1 of its own process namespace; whatever a job leaves behind, even in a session of
its own, dies with one signal.

Standard library only, and nothing is imported after the root is changed.

Protocol on the socket, both ways: 4 bytes length, JSON header, then the raw bytes that the
header announces. An empty header means: leave.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from typing import Any

if __package__:
    from itercli.engine import sandbox_guest as guests
    from itercli.engine import sandbox_namespaces as spaces
else:
    # Run as an isolated script, this file's folder is not on the path; last, so that nothing
    # here can stand in for a module of the standard library.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import sandbox_guest as guests  # type: ignore[no-redef]
    import sandbox_namespaces as spaces  # type: ignore[no-redef]

TICK = 2.0  # seconds between looks at whether the asking program is still there
ORPHANED = 3


def watch(child: int, parent: int, scratch: str) -> None:
    """Wait for the server; end it, and remove the scratch folder, if our parent is gone."""
    status = None
    while status is None:
        signal.sigtimedwait({signal.SIGCHLD}, TICK)
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        elif os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
    sweep(parent, scratch, orphaned=status == ORPHANED)
    os._exit(0)


def sweep(parent: int, scratch: str, *, orphaned: bool) -> None:
    """Remove the scratch folder once the parent is known to be dead."""
    until = time.monotonic() + (TICK if orphaned else 0)
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.02)  # a dying process closes its sockets before it is reaped
    if os.getppid() != parent:
        shutil.rmtree(scratch, ignore_errors=True)


def receive(sock: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """One message, or None at the end of the stream."""
    size = _exactly(sock, 4)
    if size is None:
        return None
    raw = _exactly(sock, struct.unpack("!I", size)[0])
    if raw is None:
        return None
    header = json.loads(raw)
    body = _exactly(sock, header.get("bytes", 0))
    return None if body is None else (header, body)


def _exactly(sock: socket.socket, count: int) -> bytes | None:
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def send(sock: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
    """Send one message."""
    raw = json.dumps({**header, "bytes": len(body)}).encode()
    sock.sendall(struct.pack("!I", len(raw)) + raw + body)


def _scratch_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("job")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Parted(Exception):
    """The program that asked is gone."""


def execute(
    job: dict[str, Any], stdin: bytes, sock: socket.socket, wake: int, alone: bool
) -> tuple[dict[str, Any], bytes]:
    """Run one job to its end, and everything that it started with it."""
    source = os.open(os.devnull, os.O_RDONLY) if not stdin else _scratch_file()
    out, err = _scratch_file(), _scratch_file()
    report_read, report_write = os.pipe()
    status_read, status_write = os.pipe()
    try:
        if stdin:
            with os.fdopen(os.dup(source), "wb") as file:
                file.write(stdin)
            os.lseek(source, 0, os.SEEK_SET)
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            guests.start(job, (source, out, err), report_write, status_write)
        for fd in (report_write, status_write):
            os.close(fd)
        report_write = status_write = -1
        parted = False
        try:
            timed_out = not _wait(pid, start + job["wall"], sock, wake)
        except Parted:
            timed_out = parted = True
        status, cpu = _end(pid, alone)
        if parted:
            raise Parted
        seconds = time.monotonic() - start
        failed = json.loads(os.read(report_read, 4096) or b"{}")
        ended = os.read(status_read, 4096)
        sizes = [os.fstat(fd).st_size for fd in (out, err)]
        kept = [min(size, job["output"]) for size in sizes]
        texts = [os.pread(out, kept[0], 0), os.pread(err, kept[1], 0)]
    finally:
        for fd in (source, out, err, report_read, report_write, status_read, status_write):
            if fd >= 0:
                os.close(fd)
    if job["isolation"] == "bubblewrap" and not failed and status >= 0:
        status, failed = _wrapped(status, ended, texts[1])
    header = {
        "id": job["id"],
        "errno": failed.get("errno", 0),
        "error": failed["text"] if failed.get("ours") else "",
        "status": status,
        "timed_out": timed_out,
        "seconds": seconds,
        "cpu": cpu,
        "stdout": len(texts[0]),
        "truncated": any(size >= min(job["output"], job["file"]) for size in sizes),
    }
    return header, texts[0] + texts[1]


def _wrapped(status: int, said: bytes, stderr: bytes) -> tuple[int, dict[str, Any]]:
    """How the guest of bubblewrap ended; and what failed if it was never started."""
    if b'"exit-code"' in said:  # it tells a signal as a shell does
        return (128 - status if 128 < status <= 128 + 64 else status), {}
    text = stderr.decode("utf-8", "replace").strip()[-500:]
    missing = "execvp" in text
    return status, {"errno": errno.ENOENT if missing else errno.EIO, "ours": not missing, "text": text}


def _wait(pid: int, until: float, sock: socket.socket, wake: int) -> bool:
    """Whether the job ended in time. It is left as a zombie, so that its group id stays taken."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(sock, select.POLLIN)
    while not _ended(pid):
        left = until - time.monotonic()
        if left <= 0:
            return False
        for fd, _ in poll.poll(min(left, 60) * 1000 + 1):
            if fd != wake:
                raise Parted
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
    return True


def _ended(pid: int) -> bool:
    """Whether the job ended; reaps strays meanwhile, of which a fork bomb leaves thousands."""
    while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if found.si_pid == pid:
            return True
        os.waitpid(found.si_pid, 0)
    return False


def _end(pid: int, alone: bool) -> tuple[int, float]:
    """Kill the job's group and its strays; collect them all and the processor time that they took."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    status, usage = os.wait4(pid, 0)[1:]
    cpu = usage.ru_utime + usage.ru_stime
    with contextlib.suppress(ChildProcessError):
        while True:
            while (found := os.wait4(-1, os.WNOHANG))[0]:
                cpu += found[2].ru_utime + found[2].ru_stime
            if alone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # all but ourselves: we are process 1 in here
            else:
                for child in _children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
            usage = os.wait4(-1, 0)[2]
            cpu += usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(status), cpu


def _children() -> list[int]:
    """Our children; strays of a job become ours because we are their subreaper."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def tasks_of_user(uid: int) -> int:
    """Processes and threads of a user now: without a user namespace the kernel counts them all."""
    count = 0
    for name in os.listdir("/proc") if guests.LINUX else ():
        with contextlib.suppress(OSError):
            entry = os.stat(f"/proc/{name}/task")
            count += entry.st_nlink - 2 if entry.st_uid == uid else 0
    return count


def main() -> None:
    """Serve jobs until told to leave or the asking program is gone."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    message = receive(sock)
    if message is None:
        return
    setup, _ = message
    alone = setup["isolation"] == "namespaces"
    os.umask(0o077)
    # Process 1 of a namespace does not get what it has no handler for; the interpreter has this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        others = 0
        if alone:
            # The watcher must not miss its child's end.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            child, guest = spaces.enter(setup["readable"], setup["scratch"], network=setup["network"])
            if child:
                sock.close()
                watch(child, setup["parent"], setup["scratch"])
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        else:
            guest = guests.unprivileged()
            others = 0 if guest > guests.FIRST_GUEST else tasks_of_user(guest) + 512
            spaces.prctl(spaces.PR_SET_CHILD_SUBREAPER, 1)
    except OSError as error:
        send(sock, {"error": str(error)})
        return
    spaces.prctl(spaces.PR_SET_DUMPABLE, 0)  # no process of the same user can look into this one
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    send(sock, {"error": "", "guest": guest})
    while True:
        ready, _, _ = select.select([sock], [], [], TICK)
        if not ready:
            if not alone and os.getppid() != setup["parent"]:
                break
            continue
        try:
            message = receive(sock)
            if message is not None and "argv" not in message[0]:
                os._exit(0)
            if message is None:
                break
            job, stdin = message
            job.update(processes=job["processes"] + others, guest=guest, scratch=setup["scratch"])
            header, body = execute(job, stdin, sock, wake_read, alone)
            send(sock, header, body)
        except (Parted, ConnectionError):
            break
    if not alone:
        sweep(setup["parent"], setup["scratch"], orphaned=True)
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()

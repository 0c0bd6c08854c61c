"""Guests that attack the sandbox itself: its verdicts, its process, other guests, the user's rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from itercli.engine import sandbox, sandbox_guest, sandbox_landlock, sandbox_pool, sandbox_server
from itercli.engine.sandbox import Limits, Result, SandboxError

# Guests are somebody else if this is root, so the interpreter must be one that anybody can start.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or ""
needs_python = pytest.mark.skipif(not PYTHON, reason="no python3 of the system")

FORGE = """
import json, os, struct
body = b"all tests passed"
head = {"id": "", "errno": 0, "error": "", "status": 0, "timed_out": False, "seconds": 0.0, "cpu": 0.0}
head |= {"stdout": len(body), "truncated": False, "bytes": len(body)}
raw = json.dumps(head).encode()
for fd in range(3, 1024):
    try:
        os.write(fd, struct.pack("!I", len(raw)) + raw + body)
    except OSError:
        pass
print("what it printed")
raise SystemExit(1)
"""


def guest(code: str, kind: sandbox.Isolation, *arguments: object, **limits: object) -> Result:
    with sandbox.tempdir() as folder:
        (folder / "guest.py").write_text(textwrap.dedent(code))
        argv = [PYTHON, "-I", "-S", "guest.py", *map(str, arguments)]
        wanted = Limits(**{"wall": 10, **limits})  # type: ignore[arg-type]
        return sandbox.run(argv, cwd=folder, limits=wanted, isolation=kind)


@needs_python
def test_a_guest_has_three_descriptors(kind: sandbox.Isolation) -> None:
    # The fourth is the listing's own; where there is no /proc all numbers are tried.
    code = """
        import os
        def is_open(fd):
            try:
                return os.fstat(fd) is not None
            except OSError:
                return False
        print([fd for fd in range(1 << 16) if is_open(fd)])
        print(sorted(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else "hidden")
    """
    inherited = os.open("/dev/null", os.O_RDONLY)
    try:
        os.set_inheritable(inherited, True)
        found, listed = guest(code, kind).stdout.decode().splitlines()
    finally:
        os.close(inherited)
    assert found == "[0, 1, 2]"
    assert listed in ("['0', '1', '2', '3']", "hidden")


@needs_python
def test_no_guest_speaks_for_itself_or_for_the_next(kind: sandbox.Isolation) -> None:
    for _ in range(2):
        evil = guest(FORGE, kind)
        assert (evil.returncode, evil.stdout) == (1, b"what it printed\n")
        assert guest("print('honest')", kind).stdout == b"honest\n"


def test_a_result_of_another_job_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_pool.secrets, "token_hex", lambda _: "our job")
    answers = iter(["another job", "our job"])

    def answer(self: object, job: dict[str, str], body: bytes = b"") -> tuple[dict[str, object], bytes]:
        assert job["id"] == "our job"
        return {"id": next(answers), "error": ""}, b""

    monkeypatch.setattr(sandbox_pool.Server, "_ask", answer)
    server = object.__new__(sandbox_pool.Server)
    server.socket = type("Socket", (), {"settimeout": lambda *_: None})()  # type: ignore[assignment]
    with pytest.raises(SandboxError, match="the result of another program"):
        server.run({}, b"", 1)
    server.run({}, b"", 1)


ATTACK = """
import ctypes, os, signal, sys
main, me = int(sys.argv[1]), os.getpid()
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PIDFD_OPEN, PIDFD_GETFD = 0x4206, 434, 438
def attempt(what, does):
    try:
        if does() is not None:
            print(what)
    except OSError:
        pass
def call(name, *arguments):
    return True if getattr(libc, name)(*arguments) >= 0 else None
for name, pid in (("server", os.getppid()), ("program", main)):
    if pid == 1:  # a process of the guest's own namespace, and of no use: it only waits
        continue
    attempt(f"signals the {name}", lambda: os.kill(pid, signal.SIGUSR2) or True)
    attempt(f"writes to memory of the {name}", lambda: open(f"/proc/{pid}/mem", "r+b"))
    attempt(f"traces the {name}", lambda: call("ptrace", PTRACE_SEIZE, pid, None, None))
    for fd in range(3, 32):
        attempt(f"opens a descriptor of the {name}", lambda: open(f"/proc/{pid}/fd/{fd}", "wb"))
        handle = libc.syscall(PIDFD_OPEN, pid, 0)
        if handle >= 0:
            attempt(f"takes a descriptor of the {name}", lambda: call("syscall", PIDFD_GETFD, handle, fd, 0))
            os.close(handle)
attempt("is root", lambda: os.setuid(0) or True)
attempt("has groups of root", lambda: True if 0 in (*os.getgroups(), *os.getresgid()) else None)
attempt("is root", lambda: True if 0 in os.getresuid() else None)
print("tried")
"""


@needs_python
@pytest.mark.skipif(sys.platform != "linux", reason="attacks on Linux")
def test_guests_reach_no_other_process_and_have_no_rights(kind: sandbox.Isolation) -> None:
    if kind == "limits" and sandbox_landlock.version() < 6 and os.geteuid():
        pytest.skip("a guest of the same user without Landlock: documented as open")
    assert guest(ATTACK, kind, os.getpid()).stdout.decode().splitlines() == ["tried"]
    assert guest("print('fine')", kind).stdout == b"fine\n"


@needs_python
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_guests_have_no_capabilities_and_gain_none() -> None:
    code = "print(open('/proc/self/status').read())"
    status = dict(
        line.split(":", 1) for line in guest(code, "limits").stdout.decode().splitlines() if ":" in line
    )
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    uids = set(status["Uid"].split())
    assert uids == {str(os.geteuid())} if os.geteuid() else "0" not in uids


@pytest.mark.skipif(os.geteuid() != 0, reason="what root may do")
def test_guests_of_root_without_namespaces_are_nobody_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    secret.chmod(0o600)
    script = f"cat {secret}; echo x > {tmp_path}/new; id -u; id -G"
    with sandbox.tempdir() as folder:
        done = sandbox.run(["/bin/sh", "-c", script], cwd=folder, isolation="limits")
    uid, groups = done.stdout.decode().split("\n")[:2]
    assert int(uid) > sandbox_guest.FIRST_GUEST
    assert groups == uid
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


@pytest.mark.skipif(os.geteuid() != 0, reason="what root may do")
@pytest.mark.parametrize("kind", ["limits", "bubblewrap"], indirect=True)
def test_a_tool_that_only_root_reaches_is_named(tmp_path: Path, kind: sandbox.Isolation) -> None:
    tool = tmp_path / "tool"
    shutil.copy("/bin/true", tool)
    tmp_path.chmod(0o700)
    with (
        sandbox.tempdir() as folder,
        pytest.raises(SandboxError, match="install it where all users can read"),
    ):
        sandbox.run([tool], cwd=folder, readable=[tmp_path], isolation=kind)


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="needs root and setpriv")
def test_root_that_cannot_be_anybody_else_runs_nothing() -> None:
    code = """
        from itercli.engine import sandbox
        with sandbox.tempdir() as folder:
            try:
                sandbox.run(["/bin/echo", "ran"], cwd=folder, isolation="limits")
            except sandbox.SandboxError as error:
                print(error)
    """
    argv = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid", sys.executable, "-c"]
    done = subprocess.run([*argv, textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "cannot run a program as anybody else" in done.stdout


@needs_python
def test_guests_see_of_the_scratch_folder_their_own_part(kind: sandbox.Isolation) -> None:
    if kind == "limits" and not sandbox_landlock.version() and os.geteuid():
        pytest.skip("a guest of the same user without Landlock: documented as open")
    with sandbox.tempdir() as folder:
        (folder / "verdict").write_text("failed")
        sandbox.run(["/bin/true"], cwd=folder, isolation=kind)  # its files are handed to the guest
        code = """
            import os, sys
            for attempt in (lambda: open(sys.argv[1], "w").write("passed"), lambda: os.remove(sys.argv[1])):
                try:
                    attempt()
                except OSError:
                    print("refused")
        """
        assert guest(code, kind, folder / "verdict").stdout == b"refused\nrefused\n"
        assert (folder / "verdict").read_text() == "failed"


@needs_python
def test_files_and_network_are_out_of_reach(kind: sandbox.Isolation, tmp_path: Path) -> None:
    if kind == "limits" and sandbox_landlock.version() < 4:
        pytest.skip("without namespaces or Landlock: documented as open")
    (tmp_path / "secret").write_text("password")
    for path in (tmp_path, tmp_path / "secret"):
        path.chmod(0o777)
    code = f"""
        import os, socket, sys
        for name in ({str(tmp_path / "secret")!r}, "/etc/passwd", "/etc/shadow"):
            try:
                print(open(name).read())
            except OSError:
                pass
        for name in ("/usr/x", "/x", "/tmp/x", "/dev/x", {str(tmp_path / "x")!r}):
            try:
                open(name, "w")
                print("made", name)
            except OSError:
                pass
        try:
            socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2)
            print("connected")
        except OSError:
            print("no network")
    """
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        done = guest(code, kind, server.getsockname()[1])
    assert done.stdout == b"no network\n", done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


def test_guests_cannot_change_what_they_are_shown() -> None:
    if sandbox.isolation() != "namespaces":
        pytest.skip(sandbox.isolation_reason())
    script = (
        "mount -t tmpfs x /tmp; mount -o remount,rw /; umount /usr; unshare -Urm id -u; kill -9 1; echo $?"
    )
    with sandbox.tempdir() as folder:
        done = sandbox.run(["/bin/sh", "-c", script], cwd=folder, isolation="namespaces")
        assert done.stdout.split()[-1] != b"0" or os.geteuid()  # of a user's own process 1 it is ignored
        done = sandbox.run(["/bin/echo", "fine"], cwd=folder, isolation="namespaces")
    assert done.stdout == b"fine\n"


@needs_python
def test_a_guest_that_interrupts_process_1_harms_nobody(kind: sandbox.Isolation) -> None:
    if kind == "limits" and sandbox_landlock.version() < 6 and os.geteuid():
        pytest.skip("a guest of the same user without Landlock: documented as open")
    code = """
        import os, signal
        for number in range(1, 32):
            if number not in (signal.SIGSTOP, signal.SIGTSTP):
                for pid in {1, os.getppid()}:
                    try:
                        os.kill(pid, number)
                    except OSError:
                        pass
        print("tried")
    """
    assert guest(code, kind).stdout in (b"tried\n", b"")  # bubblewrap's own process 1 may end with it
    assert guest("print('fine')", kind).stdout == b"fine\n"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="what is root's is root's anyway")
def test_the_server_can_not_be_looked_into() -> None:
    with sandbox.tempdir() as folder:
        sandbox.run(["/bin/true"], cwd=folder, isolation="limits")
    idle = next(idle for kind, idle in sandbox._pool.idle.items() if kind.isolation == "limits")
    server = idle[0].process.pid
    # A process that can't be dumped belongs to root in /proc, whoever runs it.
    assert os.stat(f"/proc/{server}/mem").st_uid == 0


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    sandbox._probe.cache_clear()
    yield monkeypatch
    sandbox._probe.cache_clear()


def works(*kinds: str):  # type: ignore[no-untyped-def]
    def run(argv: object, *, isolation: str, **_: object) -> Result:
        if isolation not in kinds:
            raise SandboxError("not here")
        return Result(42, b"", b"", False, "exit", 0.1, False, isolation)  # type: ignore[arg-type]

    return run


@pytest.mark.parametrize(
    ("here", "own", "wish", "found"),
    [
        (("namespaces", "bubblewrap", "limits"), None, "auto", "namespaces"),
        (("bubblewrap", "limits"), None, "auto", "bubblewrap"),
        (("bubblewrap", "limits"), None, "isolated", "bubblewrap"),
        (("namespaces", "bubblewrap", "limits"), None, "bubblewrap", "bubblewrap"),
        (("namespaces", "bubblewrap", "limits"), "bubblewrap", "isolated", "bubblewrap"),
        (("limits",), None, "auto", "limits"),
        (("limits",), None, "isolated", "Allow unprivileged user namespaces"),
        (("namespaces", "limits"), None, "bubblewrap", "Allow unprivileged user namespaces"),
        (("namespaces", "limits"), "limits", "isolated", "ITER_SANDBOX=limits gives 'limits'; unset it"),
        (("namespaces", "limits"), "limits", "auto", "limits"),
        (("namespaces",), "nonsense", "auto", "no sandbox is called 'nonsense'"),
        ((), None, "auto", "Allow unprivileged user namespaces"),
    ],
)
def test_choice(chosen: pytest.MonkeyPatch, here: tuple, own: str | None, wish: str, found: str) -> None:
    chosen.setattr(sandbox, "run", works(*here))
    chosen.setattr(sandbox.sys, "platform", "linux")
    chosen.setenv("ITER_SANDBOX", own) if own else chosen.delenv("ITER_SANDBOX", raising=False)
    if found in sandbox.WISHES:
        assert sandbox.isolation(wish) == found
        assert bool(sandbox.warning(wish)) == (found == "limits")
    else:
        with pytest.raises(SandboxError, match=found):
            sandbox.isolation(wish)


def test_bubblewrap_that_fails_is_no_verdict() -> None:
    said = b"bwrap: No permissions to create namespace"
    failed = sandbox_server._wrapped(1, b'{"child-pid": 7}', said)[1]
    assert failed["ours"]
    assert "No permissions" in failed["text"]
    assert sandbox_server._wrapped(1, b"", b"bwrap: execvp nope: No such file")[1]["ours"] is False
    assert sandbox_server._wrapped(153, b'{"exit-code": 153}', b"") == (-25, {})
    assert sandbox_server._wrapped(3, b'{"exit-code": 3}', b"bwrap: execvp") == (3, {})

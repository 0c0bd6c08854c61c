"""The sandbox holds what it promises, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from itercli.engine import sandbox
from itercli.engine.sandbox import Limits, Result


def sh(script: str, kind: sandbox.Isolation | None = None, **kwargs: object) -> Result:
    with sandbox.tempdir() as folder:
        limits = Limits(**{"wall": 10, **kwargs})  # type: ignore[arg-type]
        return sandbox.run(["/bin/sh", "-c", script], cwd=folder, limits=limits, isolation=kind)


def processes_with(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"):
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def test_result_is_complete(kind: sandbox.Isolation) -> None:
    done = sh("printf out; printf err >&2; exit 3", kind)
    assert (done.returncode, done.stdout, done.stderr, done.reason) == (3, b"out", b"err", "exit")
    assert not done.timed_out
    assert not done.truncated
    assert 0 < done.seconds < 10
    assert done.isolation == kind


def test_stdin_and_environment(kind: sandbox.Isolation) -> None:
    with sandbox.tempdir() as folder:
        done = sandbox.run(
            ["/bin/sh", "-c", "cat; echo $X $HOME"], cwd=folder, stdin=b"hello " * 20000, isolation=kind,
            env={"X": "1", "PATH": "/bin:/usr/bin"},
        )  # fmt: skip
    assert done.stdout == b"hello " * 20000 + b"1\n"


def test_wall_limit(kind: sandbox.Isolation) -> None:
    done = sh("sleep 60", kind, wall=0.3)
    assert done.timed_out
    assert done.reason == "wall-time"
    assert done.seconds < 3


def test_cpu_limit(kind: sandbox.Isolation) -> None:
    done = sh("while :; do :; done", kind, cpu=1)
    assert done.reason == "cpu-time"


def test_output_flood_is_cut(kind: sandbox.Isolation) -> None:
    done = sh("while :; do echo flood; echo flood >&2; done", kind, file=1 << 16, output=1 << 15)
    assert done.truncated
    assert len(done.stdout) <= 1 << 15


def test_file_size_limit(kind: sandbox.Isolation) -> None:
    done = sh("dd if=/dev/zero of=big bs=1024 count=4096 2>&1; stat -c %s big", kind, file=1 << 20)
    assert done.stdout.split()[-1] == str(1 << 20).encode()


def test_memory_limit(kind: sandbox.Isolation) -> None:
    script = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
    done = sh(script, kind, memory=1 << 28)
    assert done.returncode != 0
    assert not done.timed_out


def test_strays_die_with_the_run(kind: sandbox.Isolation) -> None:
    mark = f"sleep 98{os.getpid()}"
    done = sh(f"(setsid {mark} >/dev/null 2>&1 &); ({mark} &); echo done", kind)
    assert done.stdout == b"done\n"
    assert processes_with(mark) == []


def test_fork_bomb_is_contained(kind: sandbox.Isolation) -> None:
    if kind != "namespaces" and os.geteuid():
        pytest.skip("without namespaces the number of a user's processes is limited only roughly")
    done = sh("b() { b | b & }; b; sleep 0.5", kind, wall=2)
    assert done.seconds < 6
    assert sh("echo alive", kind).stdout == b"alive\n"


def test_missing_program(kind: sandbox.Isolation) -> None:
    with sandbox.tempdir() as folder, pytest.raises(FileNotFoundError, match="no-such-program"):
        sandbox.run(["no-such-program"], cwd=folder, isolation=kind)


def test_tempdir_is_removed_whatever_is_in_it(kind: sandbox.Isolation) -> None:
    with sandbox.tempdir() as folder:
        script = "mkdir -p a/b; touch a/b/c; ln -s / a/root; ln -s /etc/passwd p; chmod 000 a/b a"
        sandbox.run(["/bin/sh", "-c", script], cwd=folder, isolation=kind)
    assert not folder.exists()
    assert Path("/etc/passwd").exists()


def test_namespaces_hide_files_and_network(tmp_path: Path) -> None:
    if sandbox.isolation() != "namespaces":
        pytest.skip(sandbox.isolation_reason())
    secret = tmp_path / "secret"
    secret.write_text("password")
    os.chmod(secret, 0o644)
    script = (
        f"cat {secret} /etc/passwd /etc/shadow; ls -A /root /home /proc; touch /usr/x /x {tmp_path}/y; id -u"
    )
    done = sh(script)
    assert done.stdout == b"1000\n"
    assert list(tmp_path.iterdir()) == [secret]
    code = "import socket; s = socket.socket(); s.settimeout(2); s.connect(('127.0.0.1', int(input())))"
    with socket_listening() as port, sandbox.tempdir() as folder:
        run = [sys.executable, "-I", "-c", code]
        readable = [sys.prefix, sys.base_prefix]
        for network in (False, True):
            done = sandbox.run(run, cwd=folder, readable=readable, stdin=str(port).encode(), network=network)
            assert (done.returncode == 0) == network, done.stderr


def socket_listening():  # type: ignore[no-untyped-def]
    import contextlib
    import socket

    @contextlib.contextmanager
    def listen():  # type: ignore[no-untyped-def]
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield server.getsockname()[1]

    return listen()


def test_readable_is_read_only(tmp_path: Path) -> None:
    if sandbox.isolation() != "namespaces":
        pytest.skip(sandbox.isolation_reason())
    (tmp_path / "tool").write_text("text")
    for path in (tmp_path, tmp_path / "tool"):
        os.chmod(path, 0o777)
    with sandbox.tempdir() as folder:
        script = f"cat {tmp_path}/tool; echo x > {tmp_path}/tool; echo x > {tmp_path}/new"
        done = sandbox.run(["/bin/sh", "-c", script], cwd=folder, readable=[tmp_path])
    assert done.stdout == b"text"
    assert (tmp_path / "tool").read_text() == "text"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tool"]


def test_any_folder_can_be_cwd(tmp_path: Path, kind: sandbox.Isolation) -> None:
    if kind == "bubblewrap" and os.geteuid() == 0:
        pytest.skip("bubblewrap runs as the guest, who must reach the folder from /")
    os.chmod(tmp_path, 0o755)  # guests of root are somebody else
    (tmp_path / "f").write_text("here")
    done = sandbox.run(["/bin/cat", "f"], cwd=tmp_path, isolation=kind)
    assert done.stdout == b"here"


def test_many_threads(kind: sandbox.Isolation) -> None:
    with ThreadPoolExecutor(16) as pool:
        outputs = list(pool.map(lambda i: sh(f"echo {i}; sleep 0.01", kind).stdout, range(100)))
    assert outputs == [f"{i}\n".encode() for i in range(100)]


def test_works_from_a_thread_that_ends(kind: sandbox.Isolation) -> None:
    # A parent-death signal would follow the thread, not the process.
    results = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: results.append(sh("echo x", kind).stdout))
        thread.start()
        thread.join()
    assert results == [b"x\n", b"x\n"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "exit"])
def test_nothing_survives_the_program(kind: sandbox.Isolation, how: str) -> None:
    mark = f"sleep 97{os.getpid()}"
    program = textwrap.dedent(f"""
        import os, threading, time
        from itercli.engine import sandbox
        with sandbox.tempdir() as folder:
            print(folder, flush=True)
            run = lambda: sandbox.run(["/bin/sh", "-c", "{mark} & {mark}"], cwd=folder, isolation="{kind}")
            threading.Thread(target=run, daemon=True).start()
            time.sleep(1)
            print("ready", flush=True)
            time.sleep(60 if "{how}" == "kill" else 0)
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    folder = Path(child.stdout.readline().strip())
    assert child.stdout.readline() == "ready\n"
    if how == "kill":
        assert folder.exists()
        assert processes_with(mark)
        child.send_signal(signal.SIGKILL)
    child.wait(20)
    until = time.monotonic() + 10
    while (processes_with(mark) or folder.parent.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_with(mark) == []
    assert not folder.parent.exists()

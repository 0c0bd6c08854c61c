"""`iter ui`: where it listens, what it needs, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from itercli.cli.main import main
from itercli.web.server import HOST, listen
from tests.web.bench import make_run


def start(folder: Path, *args: str) -> tuple[subprocess.Popen[str], httpx.Client]:
    """Start it; gives the process and a client that came in by the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "itercli", "ui", *args],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs inherit "ignored"
    )  # fmt: skip
    assert process.stdout
    line = process.stdout.readline()
    found = re.match(r"(http://127\.0\.0\.1:\d+/)\?token=([\w-]{40,})  ", line)
    assert found, (line, process.communicate())
    client = httpx.Client(base_url=found[1], trust_env=False)
    assert client.get("/", timeout=60).status_code == 403
    assert client.get("/", params={"token": found[2]}, timeout=60).status_code == 303
    return process, client


def test_it_serves_on_the_next_free_port_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "words", "only")
    taken = listen(0)
    port = taken.getsockname()[1]
    process, client = start(tmp_path, "--port", str(port))
    try:
        assert client.get("/run/only", timeout=60).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)
    finally:
        process.kill()
        taken.close()
    assert process.returncode == 130
    assert f"port {port} is taken; using {client.base_url.port}" in err
    assert "Traceback" not in out + err


def test_ctrl_c_does_not_wait_for_a_page_in_the_making(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", "words", "slow")
    entry = run.entry("iteration-02/under_way")
    assert entry
    journal = entry.path / "journal.jsonl"
    journal.unlink()
    os.mkfifo(journal)  # reading it takes for ever
    process, client = start(tmp_path, "--port", "0")
    try:
        with pytest.raises(httpx.ReadTimeout):
            client.get("/run/slow", timeout=1.5)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 130
        assert time.monotonic() - begun < 3
    finally:
        process.kill()
        process.communicate()


def test_only_loopback_is_listened_to() -> None:
    sock = listen(0)
    assert sock.getsockname()[0] == HOST == "127.0.0.1"
    sock.close()


@pytest.mark.parametrize(("package", "extra"), [("starlette", "ui"), ("uvicorn", "ui"), ("jinja2", "report")])
def test_what_is_not_installed_is_named(tmp_path: Path, package: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from itercli.cli.main import main\n"
        "sys.exit(main(['ui', '--port', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert f"pip install 'itercli[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "http" not in done.stdout


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["ui", "--runs", str(tmp_path / "file")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["ui", "--port", "70000"])
    assert "must be from 0 to 65535" in capsys.readouterr().err

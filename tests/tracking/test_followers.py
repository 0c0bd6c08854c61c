"""The run's side of tracking: the reason for a tracker that did not end well."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from itercli.engine.runs import Run
from itercli.tracking import followers
from itercli.tracking.followers import Followers
from itercli.tracking.position import FOLDER
from tests.tracking.plugin import Hangs


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("print('\\x1b[31mno server at :1\\x1b[0m\\n', flush=True); input()", "it was not done after 1 s"),
        ("print('no server at :1'); raise SystemExit(7)", "its process ended with exit code 7"),
    ],
)
def test_the_end_of_the_log_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    spawn = followers.subprocess.Popen

    def stand_in(command: list[str], **options: object) -> object:
        process = spawn([sys.executable, "-S", "-c", program], **options)  # type: ignore[call-overload]
        while not log.exists() or "no server" not in log.read_text():
            pass
        return process

    run = Run(tmp_path / "run")
    log = run.path / FOLDER / "hangs.log"
    run.path.mkdir()
    monkeypatch.setattr(followers.subprocess, "Popen", stand_in)
    monkeypatch.setattr(
        followers, "_input", lambda process: SimpleNamespace(close=lambda: None, write=len, flush=int)
    )
    running = Followers(run, {"hangs": Hangs(wait=1)}, ())
    running.start()
    (line,) = running.close()
    assert f"({why}; its log ends with: no server at :1)" in line

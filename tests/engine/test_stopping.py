"""Time that does not count, signals that count once, and Ctrl-C before anything has begun."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from itercli.cli.main import main
from itercli.engine import runner as module
from itercli.engine import signals
from itercli.engine.runner import Runner
from itercli.engine.signals import Debounce


class Quiet:
    """A worker that says nothing."""

    kind, node = "sample", "iteration-01/sample"

    def __init__(self, heard: float) -> None:
        self.heard = heard

    def __getattr__(self, name: str) -> Any:
        return lambda *args: ""


class Bare(Runner):
    """A runner with one quiet worker and no run."""

    def __init__(self, now: float, hang: float) -> None:
        self.config: Any = SimpleNamespace(executor=SimpleNamespace(hang_seconds=hang))
        self.worker = Quiet(now)
        self.running: Any = {self.worker.node: self.worker}
        self._looked = now
        self.lost: list[Any] = []

    def _end_worker(self, worker: Any) -> None:
        self.running = {}

    def _lost(self, worker: Any, error: Any) -> None:
        self.lost.append(worker)


def test_time_in_which_the_command_was_stopped_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    runner = Bare(now, hang=25)
    for seconds in (0.25, 20, 0.25, 3600):  # looks, Ctrl-Z, looks, Ctrl-Z
        now += seconds
        runner._watch()
    assert not runner.lost
    for _ in range(98):
        now += 0.25
        runner._watch()
    assert not runner.lost, "half a second of silence was before"
    for _ in range(3):
        now += 0.25
        runner._watch()
    assert runner.lost == [runner.worker]


def test_an_echo_of_a_signal_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: now))
    counts = Debounce()
    found = []
    for now in (0.0, 0.02, 0.9, 1.5, 1.52, 3.0):  # noqa: B007 - what the clock shows
        found.append(counts())
    assert found == [True, False, False, True, False, True]


def test_ctrl_c_at_the_start_ends_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def importing(name: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("itercli.cli.parser.command_parser", importing)
    assert main(["runs", "--runs", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"

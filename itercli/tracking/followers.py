"""The run's side of tracking: starts the followers, looks after them, ends them in bounded time."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from itercli.engine.runner import Display
from itercli.engine.runs import Run
from itercli.engine.status import Status
from itercli.recipe.plan import Node, Plan
from itercli.report.runs import runs_option
from itercli.report.text import clean
from itercli.tracking.base import Tracker
from itercli.tracking.feed import Feed
from itercli.tracking.position import FOLDER, Position

WATCH_SECONDS = 1.0
TAIL_BYTES, TAIL_SHOWN = 4096, 200  # of a log: read, and shown in characters


class Followers:
    """The followers of one run. No method raises because of a tracker, and only `close` waits."""

    def __init__(self, run: Run, trackers: Mapping[str, Tracker], plugins: Sequence[Path]) -> None:
        self.run = run
        self.trackers = trackers
        self._plugins = plugins
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reported: set[str] = set()
        self._watched = 0.0

    def start(self) -> None:
        """Start a process for each tracker."""
        for name, tracker in self.trackers.items():
            log = self.run.path / FOLDER / f"{name}.log"
            try:
                process = spawn(self.run, tracker, self._plugins, log=log)
            except OSError as error:
                self._report(name, f"can't be started: {error}")
                continue
            self._processes[name] = process
            self.run.event("tracker_started", tracker=name, pid=process.pid)

    def watch(self) -> list[str]:
        """What went wrong since the last call, once for each tracker; looks once a second at most."""
        if time.monotonic() - self._watched < WATCH_SECONDS:
            return []
        self._watched = time.monotonic()
        notes = []
        for name, process in self._processes.items():
            if name in self._reported:
                continue
            error = Position.load(self.run, name).error
            if process.poll() is not None:
                error = error or _how(process.returncode) + self._last_words(name)
            if error:
                notes.append(self._report(name, error))
        return notes

    def close(self) -> list[str]:
        """Tell the followers that the run has ended, wait as long as each may take, then end them.

        Returns:
            For each tracker that did not get everything a line with the remedy.
        """
        begun = time.monotonic()
        for process in self._processes.values():
            with suppress(OSError):
                _input(process).close()
        return [line for name in self.trackers if (line := self._end(name, begun))]

    def _end(self, name: str, begun: float) -> str:
        wait, process = self.trackers[name].wait, self._processes.get(name)
        why = ""
        if process is not None:
            try:
                code = process.wait(max(0.0, begun + wait - time.monotonic()))
                why = "" if code == 0 else _how(code) + self._last_words(name)
            except subprocess.TimeoutExpired:
                why = f"it was not done after {wait:g} s" + self._last_words(name)
                kill(process)
        position = Position.load(self.run, name)
        why = position.error or why
        left = sum(1 for _ in Feed(self.run, self.trackers[name], position.sent).news(ended=True))
        if not why and not left:
            return ""
        if name not in self._reported:
            self._report(name, why or "it did not send everything")
        what = f"{left} things were not sent" if left else "perhaps not everything arrived"
        return (
            f"tracker {name}: {what} ({clean(why)}). Nothing is lost; send it later: "
            f"iter sync {shlex.quote(self.run.name)}{runs_option(self.run)}"
        )

    def _last_words(self, name: str) -> str:
        """The last line of the follower's log: the reason, where the library behind it gave one."""
        try:
            with open(self.run.path / FOLDER / f"{name}.log", "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
                lines = clean(log.read().decode(errors="replace")).split("\n")
        except OSError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; its log ends with: {last[:TAIL_SHOWN]}" if last else ""

    def _report(self, name: str, error: str) -> str:
        self._reported.add(name)
        self.run.event("tracker_failed", tracker=name, error=error)
        return f"tracker {name}: {clean(error)}; the run goes on without it (log: {FOLDER}/{name}.log)"


class Watched(Display):
    """A display that also looks after the followers, whenever something happens in the run."""

    def __init__(self, display: Display, followers: Followers) -> None:
        self._display, self._followers = display, followers

    def planned(self, plan: Plan, status: dict[str, Status]) -> None:
        self._display.planned(plan, status)

    def started(self, node: Node, status: Status) -> None:
        self._display.started(node, status)
        self._look()

    def progress(self, node: Node, message: dict[str, Any]) -> None:
        self._display.progress(node, message)
        self._look()

    def finished(self, node: Node, manifest: dict[str, Any], reused: bool) -> None:
        self._display.finished(node, manifest, reused)
        self._look()

    def note(self, text: str) -> None:
        self._display.note(text)

    def close(self) -> None:
        self._display.close()

    def _look(self) -> None:
        for note in self._followers.watch():
            self._display.note(note)


def spawn(
    run: Run, tracker: Tracker, plugins: Sequence[Path], *, log: Path, later: bool = False
) -> subprocess.Popen[bytes]:
    """Start a follower. It ends when its standard input is closed, or by itself if `later`.

    Raises:
        OSError: No process, or no log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "itercli.tracking", str(run.path), tracker.NAME],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    order = {"options": tracker.model_dump(mode="json"), "plugins": list(map(str, plugins)), "later": later}
    with suppress(BrokenPipeError):  # it died at once, which is seen later
        _input(process).write(json.dumps(order).encode() + b"\n")
        _input(process).flush()
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a follower and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _input(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _how(code: int) -> str:
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"

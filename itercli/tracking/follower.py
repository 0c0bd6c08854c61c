"""The process of one tracker: reads what a run writes, sends what is new, remembers it.

It is told to end by the end of its standard input, which also comes when the run's process
is killed. It lives in a session of its own, so that Ctrl-C reaches the run and not it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from typing import Any

from itercli.engine.runs import Run
from itercli.recipe.seeds import digest
from itercli.report.details import config_of, details
from itercli.report.runs import summary
from itercli.sweep.record import all_sweeps
from itercli.tracking.base import About, ModelFiles, SampleTable, Sink, Tracker
from itercli.tracking.feed import Batch, Feed
from itercli.tracking.position import FOLDER, Position

POLL_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
SETTLE_SECONDS = 3.0
STRAY_SECONDS = 5.0  # more than it is given at the end, if nobody is left to end it


class Follower:
    """Follows one run for one tracker.

    Args:
        later: `iter sync`: send what is left, once.
    """

    def __init__(self, run: Run, tracker: Tracker, *, later: bool = False) -> None:
        self.run, self.tracker, self.later = run, tracker, later
        self.position = Position.load(run, tracker.NAME)
        self.position.note = ""
        self.feed = Feed(run, tracker, self.position.sent)
        self.sink: Sink | None = None

    def follow(self, ended: threading.Event) -> bool:
        """Send until the run has ended; True if everything was sent."""
        pause = POLL_SECONDS
        while True:
            last = ended.is_set()
            if self._attempt(last):
                pause = POLL_SECONDS
            else:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            if last:
                return not self.position.error
            ended.wait(pause)

    def _attempt(self, last: bool) -> bool:
        try:
            if self.later:
                self.position.note = self.tracker.catch_up(self.about())
            state = self._last_state() if last else "running"
            for batch in self.feed.news(ended=last and state == "finished"):
                self._send(batch)
            if last and self.sink is not None:
                self.sink.close(state, headline(self.run))
                self.sink = None
                if self.later:  # what was just written offline
                    self.position.note = self.tracker.catch_up(self.about())
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            sys.stderr.flush()
            self.sink = None  # whatever state it is in: a new one is opened next time
            said = next((line for line in map(str.strip, str(error).splitlines()) if line), "no reason given")
            self._save(f"{type(error).__name__}: {said}")
            return False
        if self.sink is not None:
            self.sink.flush()
        self._save("")
        return True

    def _last_state(self) -> str:
        """How the run ended. One that was killed gives up its lock a moment after its pipes."""
        deadline = time.monotonic() + (0 if self.later else SETTLE_SECONDS)
        while (state := str(summary(self.run)["state"])) == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        return state

    def _send(self, batch: Batch) -> None:
        if self.sink is None:
            self.sink = self.tracker.open(self.about())
        content = batch.content
        if isinstance(content, SampleTable):
            self.sink.table(content)
        elif isinstance(content, ModelFiles):
            self.sink.model(content)
        else:
            self.sink.log(content)
        self.position.sent[batch.id] = batch.mark

    def _save(self, error: str) -> None:
        self.position.error = error
        self.position.save()

    def about(self) -> About:
        """The run, as the tracker is told of it."""
        info = self.run.info
        sweeps = all_sweeps(self.run.root)
        identity = digest([self.run.name, info.get("created"), info.get("folder")], 12)
        return About(
            name=self.run.name,
            identity=identity,
            folder=self.run.path / FOLDER,
            config=config_of(self.run),
            tags=[str(info.get("recipe"))],
            group=next((s.name for s in sweeps if any(p.run == self.run.name for p in s.points)), None),
            memory=self.position.memory,
        )


def headline(run: Run) -> dict[str, Any]:
    """Numbers that stand for the run: the headline metric's last and best value."""
    found: dict[str, Any] = {}
    short, best = summary(run), details(run)["best"]
    if short["headline"]:
        found["headline"] = short["headline"]["metric"]
        found["headline_last"] = short["headline"]["last"]["value"]
    if best:
        found |= {"headline_best": best["value"], "best_iteration": best["iteration"]}
    return found | ({"error": short["error"]} if short["error"] else {})


def end_of_input(wait: float) -> threading.Event:
    """An event that is set when standard input ends; then this process has `wait` seconds left, and a few."""
    ended = threading.Event()

    def watch() -> None:
        while os.read(0, 1 << 16):
            pass
        ended.set()
        time.sleep(wait + STRAY_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return ended

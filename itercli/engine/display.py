"""Progress on a terminal (Rich) or as plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from itercli.engine.runner import Display
from itercli.engine.status import Status
from itercli.recipe.plan import Node, Plan
from itercli.report.numbers import missing, number
from itercli.report.text import clean

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_SECONDS = 10.0
RATE_WINDOW_SECONDS = 30.0
# Items that are worked on side by side finish in bursts: less than this says nothing of the rate.
RATE_MIN_SECONDS = 3.0


@dataclass
class Rate:
    """Items per second over the last half minute, and the time left at that rate."""

    points: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, done: int) -> None:
        """Note how much is done now; the clock starts when the first items are being finished."""
        now = time.monotonic()
        if len(self.points) == 1 and self.points[0][1] == done:
            self.points.clear()
        self.points.append((now, done))
        while len(self.points) > 2 and now - self.points[0][0] > RATE_WINDOW_SECONDS:
            self.points.popleft()

    def hear(self, message: dict[str, Any]) -> None:
        """Take in a stage's progress message; what it does before the work ("loading ...") isn't timed."""
        if "status" in message["metrics"]:
            self.points.clear()
        else:
            self.add(message["done"])

    @property
    def per_second(self) -> float:
        """Rate; 0 while unknown, which it is for the first seconds."""
        if len(self.points) < 2:
            return 0.0
        (t0, d0), (t1, d1) = self.points[0], self.points[-1]
        return (d1 - d0) / (t1 - t0) if t1 - t0 >= RATE_MIN_SECONDS else 0.0

    def left(self, done: int, total: int | None) -> float | None:
        """Seconds left, or None while unknown."""
        rate = self.per_second
        return (total - done) / rate if total is not None and rate > 0 else None


def duration(seconds: float | None) -> str:
    """Seconds as `1h02m`, `3m20s` or `12s`."""
    if seconds is None:
        return "?"
    s = round(seconds)
    if s >= 3600:
        return f"{s // 3600}h{s % 3600 // 60:02d}m"
    return f"{s // 60}m{s % 60:02d}s" if s >= 60 else f"{s}s"


def progress_text(message: dict[str, Any], rate: Rate) -> str:
    """`118/512 scores, 81/s, 5s left, passed 0.41` for one stage."""
    done, total, unit = message["done"], message["total"], message["unit"]
    parts = []
    if unit:
        parts.append(f"{done}/{total} {unit}" if total is not None else f"{done} {unit}")
        speed = rate.per_second
        if speed > 0:
            parts.append(f"{speed:.0f}/s" if speed >= 10 else f"{speed:.2g}/s")
        left = rate.left(done, total)
        if left is not None and done != total:
            parts.append(f"{duration(left)} left")
    for name, value in message["metrics"].items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(text if name == "status" else f"{name} {text}")
    return ", ".join(parts)


def result_text(manifest: dict[str, Any]) -> str:
    """What a finished stage made, in one line."""
    parts = []
    if manifest["rows"] is not None:
        parts.append(f"{manifest['rows']} rows")
    for name, value in manifest["metrics"].items():
        if isinstance(value, dict):
            low, mean, high = (number(value[k], like=value["value"]) for k in ("low", "value", "high"))
            ends = f" [{low}, {high}]" if value["value"] is not None else ""
            parts.append(f"{name} {mean}{ends}{missing(value)}")
        elif isinstance(value, float):
            parts.append(f"{name} {value:.4g}")
        elif isinstance(value, int):
            parts.append(f"{name} {value}")
    shown = [f"{n} {name}" for name, n in manifest["counts"].items() if n]
    return ", ".join([*parts, *shown[:6]])


class PlainDisplay(Display):
    """Lines for logs: start and end of each stage, progress every ten seconds."""

    def __init__(self) -> None:
        self._rates: dict[str, Rate] = {}
        self._last: dict[str, float] = {}

    def planned(self, plan: Plan, status: dict[str, Status]) -> None:
        counts = {a: sum(s.action == a for s in status.values()) for a in ("reuse", "resume", "run")}
        if counts["run"] or counts["resume"]:
            self.note(f"{len(status)} stages: " + ", ".join(f"{n} to {a}" for a, n in counts.items() if n))
            for line in plan.notes:
                self.note(line)

    def started(self, node: Node, status: Status) -> None:
        self._rates[node.id] = Rate()
        self._last[node.id] = time.monotonic()
        extra = f" ({status.reason})" if status.action == "resume" else ""
        self.note(f"{node.id}: {status.action}{extra}")

    def progress(self, node: Node, message: dict[str, Any]) -> None:
        self._rates[node.id].hear(message)
        now = time.monotonic()
        if now - self._last[node.id] >= PLAIN_SECONDS:
            self._last[node.id] = now
            self.note(f"{node.id}: {progress_text(message, self._rates[node.id])}")

    def finished(self, node: Node, manifest: dict[str, Any], reused: bool) -> None:
        if not reused:
            self.note(f"{node.id}: done in {duration(manifest['seconds'])}; {result_text(manifest)}")

    def note(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {clean(text)}", flush=True)

    def close(self) -> None:
        """Nothing to put away."""


class LiveDisplay(Display):
    """A live view: finished stages scroll by, those under way stand below with bars."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = Console()
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", markup=False),
            console=self.console,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._rates: dict[str, Rate] = {}
        self._total: TaskID | None = None
        self._live = False

    def planned(self, plan: Plan, status: dict[str, Status]) -> None:
        left = sum(s.action != "reuse" for s in status.values())
        if not left:
            return
        self._live = True
        for line in plan.notes:
            self.note(line)
        self._progress.start()
        self._total = self._progress.add_task("whole run", total=len(status), text="")
        self._iterations = plan.recipe.config.iterations

    def started(self, node: Node, status: Status) -> None:
        self._rates[node.id] = Rate()
        self._tasks[node.id] = self._progress.add_task(node.id, total=None, text=status.action)

    def progress(self, node: Node, message: dict[str, Any]) -> None:
        self._rates[node.id].hear(message)
        self._progress.update(
            self._tasks[node.id],
            completed=message["done"],
            total=message["total"],
            text=progress_text(message, self._rates[node.id]),
        )

    def finished(self, node: Node, manifest: dict[str, Any], reused: bool) -> None:
        if node.id in self._tasks:
            self._progress.remove_task(self._tasks.pop(node.id))
        if not reused:
            mark = f"[green]✓[/] {node.id:<28} {duration(manifest['seconds']):>6}  "
            self.console.print(mark + _escape(result_text(manifest)), highlight=False)
        if self._total is not None:
            text = f"iteration {node.iteration} of {self._iterations}"
            self._progress.update(self._total, advance=1, text=text)
        elif not reused:
            self.note(node.id)

    def note(self, text: str) -> None:
        self.console.print(_escape(clean(text)), highlight=False)

    def close(self) -> None:
        if self._live:
            self._progress.stop()


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def make_display(plain: bool = False) -> Display:
    """The display that suits standard output."""
    return PlainDisplay() if plain or not sys.stdout.isatty() else LiveDisplay()

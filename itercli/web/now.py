"""What is being made right now, from the files that running stages write.

Nothing is read twice: of journals, only the lines that are new.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from itercli.engine.checked import parse, unseal
from itercli.engine.display import Rate, duration
from itercli.engine.runs import Run
from itercli.engine.store import CHECKPOINTS, JOURNAL, MANIFEST, Entry
from itercli.report.text import clean
from itercli.training.step_log import STEPS
from itercli.web.stamps import file_stamp

ENDED = ("stage_finished", "stage_failed", "stage_stopped", "worker_died")
LAST = 4096  # bytes at a file's end that hold its last line
SHOWN = 4  # metrics of a step
Row = dict[str, Any]


class Watch:
    """Follows the runs of a folder, and remembers how far it has read."""

    def __init__(self) -> None:
        self._events: dict[Path, tuple[Any, dict[str, Row]]] = {}
        self._lines: dict[Path, tuple[int, int, int]] = {}
        self._rates: dict[Path, Rate] = {}

    def running(self, run: Run) -> list[Row]:
        """The stages that a process works on or waits for, as short facts.

        Returns:
            ``[{node, state, done, total, unit, facts}]``; state is running or waiting, ``done``
            and ``total`` count rows, or steps of a training, None while unknown; ``facts`` are
            short texts.
        """
        if not run.held:
            self._events.pop(run.path, None)
            return []
        nodes = run.info.get("nodes", {})
        found = []
        for node, event in self._last(run).items():
            state = "" if event["event"] in ENDED else "running"
            state = "waiting" if event["event"] == "waiting" else state
            place = nodes.get(node)
            if not state or not place:
                continue
            entry = run.store.entry(place["kind"], event["key"] or place["key"])
            if not (entry.path / MANIFEST).exists():
                found.append({"node": node, "state": state, **self._progress(entry)})
        return found

    def _last(self, run: Run) -> dict[str, Row]:
        """The last event of each stage."""
        path = run.path / "events.jsonl"
        stamp = file_stamp(path)
        known = self._events.get(run.path)
        if known is None or known[0] != stamp:
            last: dict[str, Row] = {}
            for event in run.events():
                if event.get("event") == "run_started":
                    last.clear()  # what an earlier attempt left unfinished begins again
                elif event.get("node") and event.get("event"):
                    before = last.get(event["node"], {})
                    last[event["node"]] = {"key": before.get("key"), **event}
            known = self._events[run.path] = (stamp, last)
        return known[1]

    def _progress(self, entry: Entry) -> Row:
        step = last_line(entry.path / STEPS)
        if step is not None:
            facts = [
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in step.items()
                if name != "step"
            ]
            return {"done": step.get("step"), "total": None, "unit": "steps", "facts": facts[:SHOWN]}
        steps = [int(p.name[5:]) for p in entry.path.glob(f"{CHECKPOINTS}/step-*") if p.name[5:].isdigit()]
        if steps:
            return {"done": max(steps), "total": None, "unit": "steps", "facts": []}
        total = entry.total
        path = entry.path / JOURNAL
        if total is None and not path.exists():
            return {"done": None, "total": None, "unit": "", "facts": []}
        done = self._count(path)
        rate = self._rates.setdefault(path, Rate())
        if len(rate.points) < 2 or rate.points[-1][1] != done:
            rate.add(done)
        speed, left = rate.per_second, rate.left(done, total)
        facts = [f"{speed:.0f}/s" if speed >= 10 else f"{speed:.2g}/s"] if speed else []
        facts += [f"{duration(left)} left"] if left and done != total else []
        return {"done": done, "total": total, "unit": "rows", "facts": facts}

    def _count(self, path: Path) -> int:
        """Whole lines of a journal; only what was added since the last call is read."""
        try:
            with open(path, "rb") as handle:
                inode = os.fstat(handle.fileno()).st_ino
                known, offset, lines = self._lines.get(path, (inode, 0, 0))
                if known != inode or offset > os.fstat(handle.fileno()).st_size:
                    offset = lines = 0  # another file: repaired, or begun anew
                handle.seek(offset)
                while block := handle.read(1 << 20):
                    end = block.rfind(b"\n") + 1
                    lines += block.count(b"\n")
                    if not end and len(block) < 1 << 20:
                        break
                    offset += end or len(block)
                    handle.seek(offset)
        except FileNotFoundError:
            return 0
        self._lines[path] = (inode, offset, lines)
        return lines


def last_line(path: Path) -> Row | None:
    """The last whole line of a file of JSON lines; None where there is none."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(os.fstat(handle.fileno()).st_size - LAST, 0))
            line = handle.read().splitlines(keepends=True)[-1]
        found = parse(unseal(line, "step"))
    except (OSError, IndexError, ValueError):
        return None
    return {clean(str(k)): v for k, v in found.items()} if isinstance(found, dict) else None

"""The pages of `iter ui`, each made when somebody looks and kept until its files change.

What is kept is text and bounded: rows are read as a stream and let go.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from itercli.engine.runs import RUN_FILE, Run
from itercli.recipe.errors import nearest
from itercli.report.runs import summary
from itercli.report.samples import KINDS
from itercli.report.tables import by_iteration
from itercli.sweep.record import all_sweeps
from itercli.web.browser import Surveys, per_stage
from itercli.web.data import page_data
from itercli.web.now import Watch
from itercli.web.page import Live, document, environment, render
from itercli.web.rows import rows_page
from itercli.web.stamps import list_stamp, page_stamp, run_stamp, short
from itercli.web.texts import tidy

KEPT = 16  # pages; one has up to some megabytes
KEPT_SURVEYS = 400  # stages of runs that are under way
Row = dict[str, Any]


class Gone(LookupError):
    """No such run, or one that can't be read; the message says what there is."""


class Pages:
    """Pages of a folder of runs.

    Every method gives a version, which stays while nothing changes, and the page as bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._watch = Watch()
        self._listing, self._making, self._watching = Lock(), Lock(), Lock()
        self._list = ("", b"")
        self._made: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._surveys: Surveys = {}
        self._summaries: dict[str, tuple[Any, Row]] = {}

    def names(self) -> list[str]:
        """Names of all runs."""
        return sorted(p.parent.name for p in self.root.glob(f"*/{RUN_FILE}"))

    def runs(self, names: Sequence[str]) -> list[Run]:
        """Runs by their whole names; nothing else leads to a folder.

        Raises:
            Gone: There is none of a name, or its record is damaged.
        """
        known, found = self.names(), []
        for name in dict.fromkeys(names):
            if name not in known:
                near = nearest(name, known)
                hint = f" Did you mean {near}?" if near else ""
                raise Gone(f"There is no run {name!r} in {self.root}; it may have been removed.{hint}")
            run = Run(self.root / name)
            info: Any = run.info
            if not isinstance(info, dict) or not isinstance(info.get("nodes"), dict):
                raise Gone(
                    f"{name}/{RUN_FILE} is damaged or has just begun; running the recipe again mends it."
                )
            found.append(run)
        return found

    def index(self) -> tuple[str, bytes]:
        """All runs, the points of sweeps together."""
        runs = [Run(self.root / name) for name in self.names()]
        version = short(list_stamp(self.root, runs))
        with self._listing:
            if self._list[0] != version:
                self._list = (version, self._index(runs, version).encode())
            return self._list

    def report(self, names: Sequence[str]) -> tuple[str, bytes]:
        """A run, or several side by side, as `iter report` shows them.

        Raises:
            Gone: See `runs`.
        """
        runs = self.runs(names)
        version = short([page_stamp(run, run.info["nodes"]) for run in runs])
        live = Live("/now?" + query(runs), version)
        with self._making:  # a page that several ask for is made once
            known = self._made.get(live.poll)
            if known is None or known[0] != version:
                known = self._made[live.poll] = (version, self._report(runs, live).encode())
            self._made.move_to_end(live.poll)
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
            return known

    def now(self, names: Sequence[str]) -> tuple[str, bytes]:
        """What is being made now in some runs, as a part of their page.

        Raises:
            Gone: See `runs`.
        """
        runs = self.runs(names)
        with self._watching:
            found = [{"name": run.name, "held": run.held, "stages": self._watch.running(run)} for run in runs]
        page = short([page_stamp(run, run.info["nodes"]) for run in runs])
        made = environment().get_template("now.html").render(runs=tidy(found), page=page).encode()
        return short(made), made

    def rows(self, name: str, asked: Row) -> tuple[str, bytes]:
        """All rows of a stage, some at a time.

        Args:
            asked: What `rows_page` takes.

        Raises:
            Gone: See `runs`.
            LookupError: No such stage, or its rows can't be read.
        """
        (run,) = self.runs([name])
        made = rows_page(run, **asked).encode()
        return short(made), made

    def _report(self, runs: list[Run], live: Live) -> str:
        planned = sum(place["kind"] in KINDS for run in runs for place in run.info["nodes"].values())
        # The number is that of the whole plan: what was found in a stage serves until the end.
        made = render(page_data(runs, per_stage(planned), self._surveys), live)
        if not any(run.held for run in runs):  # it will not be made again soon
            self._surveys.clear()
        while len(self._surveys) > KEPT_SURVEYS:
            self._surveys.pop(next(iter(self._surveys)))
        return made

    def _index(self, runs: list[Run], version: str) -> str:
        rows = {run.name: self._summary(run) for run in runs}
        ordered = sorted(rows.values(), key=lambda r: r["updated"] or "", reverse=True)
        sweeps: list[Row] = [
            {
                "name": sweep.name,
                "recipe": sweep.recipe,
                "states": Counter(rows[p.run]["state"] if p.run in rows else "waiting" for p in sweep.points),
                "points": [{"changed": p.label, "name": p.run, "run": rows.get(p.run)} for p in sweep.points],
            }
            for sweep in all_sweeps(self.root)
        ]
        inside = {p["name"] for sweep in sweeps for p in sweep["points"]}
        return document(
            "index.html",
            Live("/", version),
            title=f"Runs in {self.root}",
            **tidy({"root": str(self.root.resolve()), "sweeps": sweeps}),
            runs=tidy([r for r in ordered if r["name"] not in inside]),
            total=len(rows),
        )

    def _summary(self, run: Run) -> Row:
        """A run's line; one that can't be read has one, too."""
        stamp = run_stamp(run)
        known = self._summaries.get(run.name)
        if known is None or known[0] != stamp:
            try:
                row = summary(run)
                if row["headline"]:
                    name = row["headline"]["metric"]
                    row["values"] = by_iteration(run)[name]
            except (LookupError, TypeError, AttributeError, ValueError, OSError) as error:
                blank = dict.fromkeys(("recipe", "headline", "updated", "stopped_early"))
                row = {**blank, "name": run.name, "state": "damaged", "seconds": 0, "error": str(error),
                       "iterations": {"done": 0, "total": 0}, "stages": {"done": 0, "total": 0}}  # fmt: skip
            known = self._summaries[run.name] = (stamp, row)
        return known[1]


def query(runs: Sequence[Run]) -> str:
    """Runs as the query of an address."""
    return urlencode([("run", run.name) for run in runs])

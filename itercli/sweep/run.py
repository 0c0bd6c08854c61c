"""One `iter run -m`: plan all points, record the sweep, launch what is unfinished, say how it ended.

Exit codes: 0 all points finished, 1 some did not, 2 something is wrong with the line, 3 another
process runs this sweep, 130 and 143 after SIGINT and SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from itercli.engine.checked import read_document_or, write_document
from itercli.engine.files import Locked, write_atomic
from itercli.engine.signals import Debounce
from itercli.engine.store import Store
from itercli.report.text import first_line
from itercli.sweep.job import STOP, Job, stop_signal
from itercli.sweep.launch import Launcher, find_launcher, launch, split
from itercli.sweep.points import Planned, plan_points
from itercli.sweep.preview import preview
from itercli.sweep.progress import Progress
from itercli.sweep.record import FILE, FOLDER, Sweep, sweep_name
from itercli.sweep.table import render, sweep_json


def run_sweep(
    overrides: Sequence[str],
    *,
    root: Path,
    line: str,
    recipes: Sequence[str] = (),
    download: bool = True,
    plain: bool = False,
    trust: bool = False,
) -> int:
    """Run all points of a line, or go on with them; returns the exit code.

    Args:
        overrides: The recipe's and the launcher's.
        root: Folder of all runs.
        line: The whole command; shown when there is more to do.
        recipes: Folders with own recipes.
        plain: Plain lines instead of a live display.
        trust: See `itercli.recipe.trust`.

    Raises:
        RecipeError: What is wrong with the launcher, or with any of the points.
    """
    own, hydra = split(overrides)
    launcher = find_launcher(hydra, recipes)
    planned = plan_points(own, recipes, download=download, trust=trust)
    root = Path(os.path.abspath(root))
    sweep = _record(planned, list(overrides), line, root)
    try:
        with sweep.lock():
            return _locked(sweep, planned, launcher, recipes, plain)
    except Locked as error:
        print(f"error: sweep {sweep.name} is being run by {error.holder} already", file=sys.stderr)
        return 3


def _locked(
    sweep: Sweep, planned: list[Planned], launcher: Launcher, recipes: Sequence[str], plain: bool
) -> int:
    sweep.save()
    for p in planned:
        text = yaml.safe_dump(p.plan.recipe.raw, sort_keys=False, allow_unicode=True)
        write_atomic(sweep.recipe_file(p.point), text.encode())
    before = preview(planned, Store(sweep.root / ".store"))
    print(f"{sweep.name}: {before}", flush=True)
    todo = [p for p in sweep.points if p.run not in before.done]
    if not todo:
        print()
        render(sweep_json(sweep))
        return 0
    attempt = _new_attempt(sweep)
    progress = Progress(attempt, todo, len(sweep.points))
    job = Job(
        attempt, os.getpid() if launcher.here else 0, plain, None if launcher.at_once else progress.look
    )
    trouble = ""
    with _stopping(attempt):
        try:
            left = [p.run for p in todo]
            while left:
                trouble = _launch(launcher, job, left, recipes, progress)
                # joblib gives up all of its processes when one is killed: not a reason to give up the rest.
                tried, left = left, [run for run in left if run not in progress.codes]
                if not trouble or not launcher.here or len(left) == len(tried) or stop_signal(attempt):
                    break
        except KeyboardInterrupt:  # the second signal
            pass
    signum = stop_signal(attempt)
    print(flush=True)
    render(sweep_json(sweep, progress.codes))
    missing = [p for p in todo if progress.codes.get(p.run) != 0]
    print(f"\n{sweep.name}: {len(sweep.points) - len(missing)} of {len(sweep.points)} points finished")
    print(f"  iter compare --sweep {sweep.name}")
    if trouble:
        print(f"error: the launcher {launcher.name} gave up: {trouble}", file=sys.stderr)
    if missing and launcher.at_once:
        print(f"output of the points: {os.path.relpath(attempt)}/RUN.log", file=sys.stderr)
    if missing:
        print(f"everything finished is kept; go on with:\n  {sweep.line}", file=sys.stderr)
    return 128 + signum if signum else int(bool(missing))


def _launch(launcher: Launcher, job: Job, runs: list[str], recipes: Sequence[str], progress: Progress) -> str:
    """Launch and wait; returns what went wrong with the launcher, if anything did."""
    try:
        if job.told:
            launch(launcher, job, runs, recipes)
        else:
            with progress.watching():
                launch(launcher, job, runs, recipes)
    except Exception as error:  # joblib's and submitit's own; those of points are exit codes
        return f"{type(error).__name__}: {first_line(str(error))}"
    return ""


def _record(planned: list[Planned], overrides: list[str], line: str, root: Path) -> Sweep:
    points = [p.point for p in planned]
    recipe = "+".join(dict.fromkeys(p.plan.recipe.config.name for p in planned))
    path = root / FOLDER / sweep_name(recipe, [p.run for p in points])
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    created = read_document_or(path / FILE, None, "it is written anew").get("created", now)
    return Sweep(path, recipe, overrides, points, line, os.getcwd(), created, now)


def _new_attempt(sweep: Sweep) -> Path:
    taken = [int(p.name.split("-")[1]) for p in sweep.path.glob("attempt-*")]
    attempt = sweep.path / f"attempt-{max(taken, default=0) + 1:02d}"
    attempt.mkdir()
    return attempt


@contextmanager
def _stopping(attempt: Path) -> Iterator[None]:
    """The first SIGINT or SIGTERM is passed on to the points; the second ends them at once."""
    counts = Debounce()

    def on_signal(signum: int, _: object) -> None:
        if not counts():
            return
        if (attempt / STOP).exists():
            raise KeyboardInterrupt
        write_document(attempt / STOP, {"signal": signum})

    old = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)

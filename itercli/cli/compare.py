"""Runs beside each other: metrics, options that differ, cost, and whether a difference is more than chance.

The first run is what the others are compared with. Where two runs evaluated the same
prompts they are paired prompt by prompt: mean difference, its 95 % interval, how many
prompts went up and down, and a test (McNemar's where each prompt is right or wrong, else
sign flips). Runs of different recipes are compared in what they have in common.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from itercli.cli.common import add_runs_argument, emit, fail
from itercli.engine.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("names", nargs="*", metavar="RUN", help="names, their beginnings, or paths")
    parser.add_argument("--sweep", metavar="NAME", help="all points of a sweep, a line each")
    parser.add_argument("--to", metavar="RUN", help="the run to compare with (the first one)")
    parser.add_argument(
        "--iteration", default="last", metavar="N", help="what is paired: a number, last or best (last)"
    )
    parser.add_argument("--metric", action="append", default=[], help="STAGE.METRIC (repeatable; all shared)")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.report.compare import compare

    if args.iteration not in ("last", "best") and not args.iteration.isdecimal():
        return fail(f"--iteration {args.iteration}: a number, last or best; 0 is before the loop", 2)
    at = args.iteration if args.iteration in ("last", "best") else int(args.iteration)
    try:
        runs = _chosen(args)
        content = compare(list(runs), wanted=args.metric, at=at, swept=list(runs.values()))
    except LookupError as error:
        return fail(error)
    if args.json:
        return emit("itercli.compare/1", **content)
    from rich.console import Console

    from itercli.report.compare_view import render

    render(Console(highlight=False), content)
    return 0


def _chosen(args: argparse.Namespace) -> dict[Run, dict[str, str]]:
    """Runs in the order in which they are compared, each with what its sweep varied.

    Raises:
        LookupError: Not found, or nothing to compare with.
    """
    from itercli.report.runs import lookup

    points = _points(args.runs, args.sweep) if args.sweep else {}
    named = [lookup(args.runs, name) for name in [*([args.to] if args.to else []), *args.names]]
    changed = {run.path.resolve(): values for run, values in points.items()}
    order = [*named, *points] if args.to else [*points, *named]
    found = {run.path.resolve(): run for run in reversed(order)}
    unique = list(dict.fromkeys(run.path.resolve() for run in order))
    if len(unique) < 2:
        only = found[unique[0]].name if unique else "none"
        raise LookupError(f"name two runs or more, here it is {only}; `iter runs` lists them")
    return {found[path]: changed.get(path, {}) for path in unique}


def _points(root: Path, name: str) -> dict[Run, dict[str, str]]:
    """Runs of a sweep that have begun, each with its changed values."""
    from itercli.sweep.record import find_sweep

    sweep = find_sweep(root, name)
    points = {sweep.run(point): point.changed for point in sweep.points}
    begun = {run: changed for run, changed in points.items() if run.info}
    if len(begun) < len(points):
        print(f"{len(points) - len(begun)} of {len(points)} points have not begun", file=sys.stderr)
    return begun

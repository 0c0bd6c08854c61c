"""List sweeps, newest first, or show the points of one.

A sweep is what `iter run -m` ran; its points are runs like any other.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter

from itercli.cli.common import add_runs_argument, emit, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="SWEEP", help="name, or its beginning")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.sweep.record import all_sweeps, find_sweep
    from itercli.sweep.table import render, sweep_json

    try:
        found = [find_sweep(args.runs, args.name)] if args.name else all_sweeps(args.runs)
    except LookupError as error:
        return fail(error)
    content = [sweep_json(s) for s in found]
    if args.json:
        return emit("itercli.sweeps/1", sweeps=content)
    if not found:
        print(
            f"there are no sweeps in {args.runs}; start one with `iter run -m recipe=NAME ...`",
            file=sys.stderr,
        )
        return 0
    if args.name:
        print(found[0].line)
        print()
        render(content[0])
        return 0

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from itercli.report.runs import seconds_since
    from itercli.report.text import age, clean

    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in ("sweep", "points", "age", "overrides"):
        table.add_column(column, overflow="fold", justify="right" if column == "age" else "left")
    for s in content:
        states = Counter(p["state"] for p in s["points"])
        updated = seconds_since(s["updated"])
        table.add_row(
            Text(s["name"]),
            ", ".join(f"{n} {state}" for state, n in states.items()),
            "?" if updated is None else age(updated),
            Text(clean(shlex.join(s["overrides"]))),
        )
    Console(highlight=False).print(table)
    return 0

"""List runs, newest first.

A run is finished, running, interrupted (by a signal), failed (by an error), died (its
process was killed) or damaged (its run.json can't be read); all but finished and damaged ones
go on with `iter resume NAME`, a damaged one with its `iter run` line.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from itercli.cli.common import add_runs_argument, emit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_runs_argument(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.engine.runs import all_runs
    from itercli.report.runs import STATE_STYLES, seconds_since, summary
    from itercli.report.text import age, spent

    found = [summary(r) for r in all_runs(args.runs)]
    if args.json:
        return emit("itercli.runs/1", runs=found)
    if not found:
        print(f"there are no runs in {args.runs}; start one with `iter run recipe=NAME`", file=sys.stderr)
        return 0

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in ("run", "recipe", "state", "iter", "headline", "age", "time"):
        table.add_column(column, overflow="fold", justify="right" if column in ("age", "time") else "left")
    for r in found:
        updated = seconds_since(r["updated"])
        table.add_row(
            Text(r["name"]),
            Text(r["recipe"] or "?"),
            Text(r["state"], STATE_STYLES.get(r["state"], "")),
            "?" if r["state"] == "damaged" else f"{r['iterations']['done']}/{r['iterations']['total']}",
            Text(_headline(r["headline"])),
            "?" if updated is None else age(updated),
            spent(r["seconds"]),
        )
    console.print(table)
    errors = [r for r in found if r["error"] and r["state"] in ("failed", "damaged")]
    if errors:
        console.print()
    for r in errors:
        console.print(Text.assemble((r["name"], "red"), f": {r['error']}"))
    return 0


def _headline(headline: dict[str, Any] | None) -> str:
    if headline is None:
        return ""
    from itercli.report.numbers import number

    first, last = headline["first"], headline["last"]
    values = number(first["value"])
    if first["iteration"] != last["iteration"]:
        values += f" -> {number(last['value'])}"
    return f"{headline['metric'].partition('.')[2]} {values}"

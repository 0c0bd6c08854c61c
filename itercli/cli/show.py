"""A run's stages, metrics, lineage and times; the newest run unless one is named."""

from __future__ import annotations

import argparse

from itercli.cli.common import add_runs_argument, emit, fail
from itercli.engine.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="name, its beginning, or path (newest)")
    parser.add_argument("--groups", action="store_true", help="metrics by group of prompts, too")
    parser.add_argument("--plot", action="store_true", help="curves of metrics by iteration, nothing else")
    parser.add_argument(
        "--metric", action="append", default=[], help="STAGE.METRIC for --plot (repeatable; the headline)"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.report.details import details, render
    from itercli.report.runs import lookup

    if args.plot and args.json:
        return fail("--plot and --json exclude each other; the numbers are in --json's `metrics`", 2)
    if args.metric and not args.plot:
        return fail("--metric goes with --plot", 2)
    try:
        found = lookup(args.runs, args.run_name)
    except LookupError as error:
        return fail(error)
    if args.plot:
        return _plot(found, args.metric)
    content = details(found)
    if args.json:
        return emit("itercli.show/1", **content)
    render(found, content, groups=args.groups)
    return 0


def _plot(found: Run, wanted: list[str]) -> int:
    """Print the curves of the wanted metrics, of the headline metric unless there are some."""
    from rich.console import Console
    from rich.text import Text

    from itercli.report.plot import plot
    from itercli.report.tables import by_iteration, metric_named

    data = by_iteration(found)
    if not data:
        return fail(f"{found.name} has no metrics to plot yet")
    headline = found.info.get("headline")
    console = Console(highlight=False)
    colour = console.color_system is not None
    try:
        names = [metric_named(name, data) for name in wanted]
        for n, name in enumerate(names or [headline if headline in data else next(iter(data))]):
            drawn = plot(name, data[name], console.width, colour=colour, encoding=console.encoding)
            console.print(Text.from_ansi(("\n" if n else "") + drawn), overflow="crop", no_wrap=True)
    except LookupError as error:
        return fail(error)
    return 0

"""A run's stages, metrics, lineage and times; the newest run unless one is named."""

from __future__ import annotations

import argparse

from itercli.cli.common import add_runs_argument, emit, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="name, its beginning, or path (newest)")
    parser.add_argument("--groups", action="store_true", help="metrics by group of prompts, too")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.report.details import details, render
    from itercli.report.runs import lookup

    try:
        found = lookup(args.runs, args.run_name)
    except LookupError as error:
        return fail(error)
    content = details(found)
    if args.json:
        return emit("itercli.show/1", **content)
    render(found, content, groups=args.groups)
    return 0

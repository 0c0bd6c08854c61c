"""Send a run's metrics to its trackers, after the run; the newest run unless one is named.

It sends what is missing there and nothing twice. Options of a tracker are those of the
recipe; change them with KEY=VALUE, for example mode=online. For wandb it also uploads what
was written offline, once there is an account (`wandb login`).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from itercli.cli.common import add_runs_argument, add_trust_argument, emit, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "run_name", nargs="?", metavar="RUN", help="name, its beginning, or path (the newest run)"
    )
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="options of the tracker")
    parser.add_argument(
        "--tracker", metavar="NAME", help="only this one; also one that the recipe does not name"
    )
    parser.add_argument("--again", action="store_true", help="send everything anew, whatever was sent")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_trust_argument(parser)
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.report.runs import lookup
    from itercli.tracking.later import TrackerError, send, trackers_of

    if args.run_name and "=" in args.run_name:
        args.options, args.run_name = [args.run_name, *args.options], None
    try:
        found = lookup(args.runs, args.run_name)
        trackers, plugins = trackers_of(found, args.tracker, args.options, trust=args.trust)
    except (LookupError, TrackerError) as error:
        return fail(error, 2 if isinstance(error, TrackerError) else 1)
    results: list[dict[str, Any]] = [
        send(found, tracker, plugins, again=args.again) for tracker in trackers.values()
    ]
    if args.json:
        emit("itercli.sync/1", run=found.name, trackers=results)
    else:
        for result in results:
            _say(found.name, result)
    return 1 if any(r["error"] for r in results) else 0


def _say(name: str, result: dict[str, Any]) -> None:
    tracker, sent = result["tracker"], result["sent"]
    if result["error"]:
        print(f"{tracker}: {result['error']}; log: {result['log']}", file=sys.stderr)
    elif sent:
        print(f"{tracker}: sent {sent} of {name}")
    elif not result["note"]:
        print(f"{tracker}: has all of {name} already")
    if result["note"]:
        print(f"{tracker}: {result['note']}")

"""Check this machine: versions, conflicts, tools, GPU, memory, disk, sandbox, models.

Each line says ok, warn or fail, what was found, and what to do about it. The exit code is
1 if anything failed; warnings don't count.

With --json: {"schema": "itercli.doctor/1", "status": "ok|warn|fail", "checks": [{group,
name, status, found, fix}]}.
"""

from __future__ import annotations

import argparse
import os
import sys

from itercli.cli.common import emit
from itercli.doctor import Check

_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.doctor import all_checks, worst

    checks = all_checks()
    status = worst(checks)
    if args.json:
        emit("itercli.doctor/1", status=status, checks=[c.to_json() for c in checks])
    else:
        _print(checks)
    return 1 if status == "fail" else 0


def _print(checks: list[Check]) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = max(len(c.name) for c in checks)
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            print(group)
        mark = f"{check.status:<4}"
        if colour:
            mark = f"\033[{_COLOURS[check.status]}m{mark}\033[0m"
        print(f"  {mark}  {check.name:<{width}}  {check.found}".rstrip())
        if check.fix:
            print(f"        {'':<{width}}  -> {check.fix}")
    counts = {s: sum(c.status == s for c in checks) for s in _COLOURS}
    print(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed")

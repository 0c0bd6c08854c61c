"""Write a run, or several side by side, as one HTML file that needs no network.

It shows the headline and all metrics by iteration, what was left of the rows at each step,
distributions of scores and lengths, time and tokens, which data made which model, samples
with filters, configuration and environment. Also of a run that is under way, failed or damaged.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from itercli.cli.common import add_runs_argument, count, emit, fail

GENERATOR, HEAD = b'<meta name="generator" content="itercli', 4096  # how a report begins


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "run_names", nargs="*", metavar="RUN", help="names, their beginnings, or paths (the newest run)"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="file to write (report.html in the first run's folder)"
    )
    parser.add_argument(
        "--samples",
        type=count,
        metavar="N",
        help="samples of each stage (20, fewer if there are many stages)",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output: the path")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.engine.files import write_atomic
    from itercli.errors import IterError
    from itercli.report.runs import lookup
    from itercli.web.charts import svg_maker
    from itercli.web.data import page_data
    from itercli.web.page import environment, render

    try:
        runs = [lookup(args.runs, name) for name in args.run_names or [None]]
        for need in (environment, svg_maker):  # what is missing is said before rows are read
            need()
        if len({r.path.resolve() for r in runs}) < len(runs):
            return fail("a run is named twice", 2)
        to = Path(args.to or runs[0].path / "report.html")
        if to.is_dir():
            return fail(f"--to {to} is a folder; name a file in it, for example {to / 'report.html'}", 2)
        if to.exists() and GENERATOR not in to.read_bytes()[:HEAD]:
            return fail(f"--to {to} is there already and is no report; name another file", 2)
        page = render(page_data(runs, args.samples))
        to.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(to, page.encode())
    except (LookupError, IterError) as error:
        return fail(error)
    except OSError as error:
        return fail(f"{error.filename or ''}: {error.strerror or error}")
    if args.json:
        return emit(
            "itercli.report/1", runs=[r.name for r in runs], path=os.fspath(to), size=to.stat().st_size
        )
    print(to)
    return 0

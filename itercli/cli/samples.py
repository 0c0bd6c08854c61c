"""Look at prompts, completions and verdicts of a run, also while it is under way.

Without --stage: the last score stage that has rows, of the last iteration or of the one
that is given. Conditions are combined: --iteration 2 --failed --prompt adder.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from itercli.cli.common import add_runs_argument, count, emit, fail
from itercli.recipe.errors import nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="name, its beginning, or path (newest)")
    parser.add_argument("--iteration", type=int, metavar="N", help="iteration (last); 0 is before the loop")
    parser.add_argument("--stage", metavar="NAME", help="stage, for example sample or evaluate.score")
    verdict = parser.add_mutually_exclusive_group()
    verdict.add_argument(
        "--failed", dest="passed", action="store_false", default=None, help="wrong answers only"
    )
    verdict.add_argument(
        "--passed", dest="passed", action="store_true", default=None, help="only right answers"
    )
    parser.add_argument(
        "--outcome",
        metavar="X",
        help="only this outcome, for example syntax; of pairs, this reason; of episodes, what ended them; "
        "of dialogues, their origin",
    )
    parser.add_argument(
        "--prompt", metavar="ID", help="only prompts whose id holds this text, or fits this glob"
    )
    parser.add_argument("-n", "--limit", type=count, default=5, metavar="N", help="how many to show (5)")
    parser.add_argument("--offset", type=count, default=0, metavar="N", help="how many to pass over (0)")
    parser.add_argument("--tree", action="store_true", help="draw search trees whole")
    parser.add_argument("--full", action="store_true", help="whole texts, however long")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.report.runs import lookup
    from itercli.report.samples import Query, choose, page

    query = Query(args.passed, args.outcome, args.prompt, args.limit, args.offset, args.tree)
    try:
        found = lookup(args.runs, args.run_name)
        node = choose(found, stage=args.stage, iteration=args.iteration, judged=query.judges)
        result = page(found, node, query)
    except LookupError as error:
        return fail(error)
    if args.json:
        page_of = {"run": found.name, "limit": query.limit, "offset": query.offset}
        return emit("itercli.samples/1", **page_of, **asdict(result))

    from rich.console import Console

    from itercli.report.sample_view import LINES, show_page
    from itercli.report.samples import stages_with
    from itercli.report.text import clean

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a model's Unicode on a terminal that has none
    console = Console(highlight=False)
    lines = None if args.full else LINES
    show_page(console, result, found.name, offset=args.offset, lines=lines, trees=args.tree)
    if result.not_scored:
        print(f"\n{len(result.not_scored)} rows could not be scored and are not among these:")
        for lost in result.not_scored[: args.limit]:
            print(clean("  {prompt_id} {index}: scorer {scorer}: {reason}".format(**lost)))
    if not result.samples:
        behind = f", --offset {args.offset} is behind them" if result.matched and args.offset else ""
        print(f"\n{result.matched} rows match{behind}")
        if result.outcomes:
            counts = ", ".join(f"{name or '(none)'} ({n})" for name, n in result.outcomes.items())
            print(clean(f"outcomes of {node}: {counts}"))
            if near := nearest(args.outcome or "", result.outcomes):
                print(clean(f"did you mean --outcome {near}?"))
        print(f"stages to look at: {', '.join(stages_with(found))}")
    return 0

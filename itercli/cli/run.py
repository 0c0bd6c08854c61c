"""Run a recipe, or continue it.

The same command line finds the same run again: what is finished is reused, what was cut
off is resumed, what depends on a changed option is done again.

With -m a key can have several values (training.lr=1e-5,2e-5): every combination is a run of its
own, and the closing table compares them. See docs/sweeps.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from itercli.cli.common import add_recipe_arguments, fail, fail_recipe, load
from itercli.recipe.errors import RecipeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe_arguments(parser)
    parser.add_argument("-m", "--multirun", action="store_true", help="a run for every combination of values")
    parser.add_argument("--name", help="name of the run (recipe and a hash of what it computes)")
    parser.add_argument("--offline", action="store_true", help="never download a model")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of a live display")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.cli.execute import execute
    from itercli.recipe.plan import build_plan
    from itercli.report.tables import launcher

    if args.multirun:
        return _sweep(args)
    try:
        plan = build_plan(load(args), download=not args.offline)
    except RecipeError as error:
        return fail_recipe(error)
    if args.name and ("/" in args.name or args.name.startswith(".")):
        return fail(f"--name {args.name!r}: a run name is a plain folder name", 2)
    again = f"{launcher()} {shlex.join(sys.argv[1:])}" if sys.argv[1:2] == ["run"] else None
    return execute(
        plan,
        root=Path(args.runs),
        name=args.name or plan.name,
        overrides=args.overrides,
        again=again,
        plain=args.plain,
    )


def _sweep(args: argparse.Namespace) -> int:
    from itercli.sweep.run import run_sweep

    if args.name:
        return fail("--name is of one run; the runs of a sweep are named after what they compute", 2)
    typed = sys.argv[2:] if sys.argv[1:2] == ["run"] else ["-m", *args.overrides]
    try:
        return run_sweep(
            args.overrides,
            root=args.runs,
            line=shlex.join(["iter", "run", *typed]),
            recipes=args.recipes,
            download=not args.offline,
            plain=args.plain,
            trust=args.trust,
        )
    except RecipeError as error:
        return fail_recipe(error)

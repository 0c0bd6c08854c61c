"""Run a recipe, or continue it.

The same command line finds the same run again: what is finished is reused, what was cut
off is resumed, what depends on a changed option is done again.
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
    parser.add_argument("--name", help="name of the run (recipe and a hash of what it computes)")
    parser.add_argument("--offline", action="store_true", help="never download a model")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of a live display")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.cli.execute import execute
    from itercli.recipe.plan import build_plan

    try:
        plan = build_plan(load(args), download=not args.offline)
    except RecipeError as error:
        return fail_recipe(error)
    if args.name and ("/" in args.name or args.name.startswith(".")):
        return fail(f"--name {args.name!r}: a run name is a plain folder name", 2)
    again = shlex.join(["iter", "run", *sys.argv[2:]]) if sys.argv[1:2] == ["run"] else None
    return execute(
        plan,
        root=Path(args.runs),
        name=args.name or plan.name,
        overrides=args.overrides,
        again=again,
        plain=args.plain,
    )

"""What several commands share: recipe arguments, loading a recipe, JSON and errors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from itercli.recipe.errors import RecipeError
from itercli.recipe.schema import Recipe


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of commands that take a recipe with overrides."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="recipe=NAME or recipe=FILE.yaml, then overrides"
    )
    parser.add_argument(
        "--recipes", action="append", default=[], metavar="DIR", help="folder with own recipes (repeatable)"
    )
    add_trust_argument(parser)
    add_runs_argument(parser)


def add_deep_argument(parser: argparse.ArgumentParser) -> None:
    """How much of the data is looked at."""
    parser.add_argument(
        "--deep",
        action="store_true",
        help="look at all rows of the data, not at the first 1,000",
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Whether a recipe from outside the project may run its plug-ins here."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run plug-ins, and send to addresses, of a recipe from outside this folder",
    )


def add_runs_argument(parser: argparse.ArgumentParser) -> None:
    """The folder of all runs."""
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs (runs)"
    )


def load(args: argparse.Namespace) -> Recipe:
    """Compose and check the recipe that the arguments name.

    Raises:
        RecipeError: With everything that is wrong.
    """
    from itercli.recipe.compose import compose_recipe
    from itercli.recipe.trust import check_composed

    return check_composed(compose_recipe(args.overrides, args.recipes), trust=args.trust)


def emit(schema: str, **content: Any) -> int:
    """Print a listing as JSON; `schema` names its documented shape."""
    print(json.dumps({"schema": schema, **content}, indent=2, ensure_ascii=False, default=str))
    return 0


def fail(error: Exception | str, code: int = 1) -> int:
    """Print an error for a person and return the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return code


def fail_recipe(error: RecipeError, as_json: bool = False) -> int:
    """Report a recipe's problems."""
    if as_json:
        emit("itercli.problems/1", recipe=error.recipe, problems=[p.to_json() for p in error.problems])
    else:
        print(error.render(), file=sys.stderr)
    return 2


def count(text: str) -> int:
    """A number of things, as an argument's `type`."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value

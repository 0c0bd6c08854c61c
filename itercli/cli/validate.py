"""Check recipes completely: one with its overrides, a file, or all that are shipped and yours.

No stage is run and nothing heavy is imported. Plug-ins of this folder are imported; of those from
elsewhere it says that they were not, and goes by the rest. The data are opened, the first rows of
each source (--deep: all), and the models' folders. All problems are reported at once.
"""

from __future__ import annotations

import argparse
from typing import Any

from itercli.cli.common import add_deep_argument, add_recipe_arguments, emit, fail_recipe, load
from itercli.recipe.errors import RecipeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe_arguments(parser)
    add_deep_argument(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.preflight import problems
    from itercli.recipe.plan import build_plan
    from itercli.recipe.tree import options
    from itercli.recipe.trust import TRUST, NotLoaded

    named = [o for o in args.overrides if "=" not in o]
    overrides = [o for o in args.overrides if "=" in o]
    if named:  # `iter validate itertl my.yaml` is what people type
        targets = [[f"recipe={n}", *overrides] for n in named]
    elif any(o.startswith("recipe=") for o in overrides):
        targets = [overrides]
    else:
        try:
            targets = [[f"recipe={n}", *overrides] for n in options("recipe", args.recipes)]
        except RecipeError as error:
            return fail_recipe(error, args.json)
    failed: list[RecipeError] = []
    valid: list[dict[str, Any]] = []
    for target in targets:
        args.overrides = target
        try:
            plan = build_plan(load(args), provisional=True)
            if found := problems(plan, deep=args.deep):
                raise RecipeError(found, plan.recipe.config.name)
            valid.append({"recipe": _recipe_of(target), "stages": len(plan.nodes)})
        except RecipeError as error:
            error.recipe = error.recipe or _recipe_of(target)
            left = [p for p in error.problems if isinstance(p, NotLoaded)]
            if len(left) == len(error.problems):  # nothing is wrong with what could be checked
                valid.append({"recipe": error.recipe, "stages": None, "not_loaded": [p.found for p in left]})
            else:
                failed.append(error)
    if args.json:
        emit(
            "itercli.validate/1",
            valid=valid,
            invalid=[{"recipe": e.recipe, "problems": [p.to_json() for p in e.problems]} for e in failed],
        )
    else:
        for entry in valid:
            if entry.get("not_loaded"):
                print(f"in part  {entry['recipe']}: not loaded: {', '.join(entry['not_loaded'])}")
                print("         from outside this folder: its components and the stages were not checked;")
                print(f"         {TRUST} loads it, which runs its code")
            else:
                print(f"ok       {entry['recipe']} ({entry['stages']} stages)")
        for invalid in failed:
            print(f"invalid  {invalid.recipe}\n")
            fail_recipe(invalid)
    return 2 if failed else 0


def _recipe_of(overrides: list[str]) -> str:
    """What the overrides name as the recipe."""
    return next(o.partition("=")[2] for o in reversed(overrides) if o.startswith("recipe="))

"""List recipes, show one as composed, or make one your own.

iter recipes                            what there is
iter recipes show itertl                composed with its parts
iter recipes new mine --from itertl     a short one that derives from another
iter recipes copy itertl --to FILE      a copy of the whole file
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from itercli.cli.common import emit, fail, fail_recipe
from itercli.recipe.errors import RecipeError, nearest

if TYPE_CHECKING:
    from itercli.recipe.schema import Recipe

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", nargs="?", choices=("list", "show", "copy", "new"), default="list")
    parser.add_argument("name", nargs="?", help="recipe to show or copy, or name of the new one")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="with show: overrides")
    parser.add_argument("--from", dest="base", metavar="RECIPE", help="with new: the recipe to derive from")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="with copy and new: file to write (recipes/recipe/NAME.yaml)"
    )
    parser.add_argument(
        "--recipes", action="append", default=[], metavar="DIR", help="folder with own recipes"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.recipe.compose import compose_recipe, load_yaml
    from itercli.recipe.tree import options

    try:
        known = options("recipe", args.recipes)
        if args.action == "list":
            rows = [_describe(name, path, load_yaml(path)) for name, path in sorted(known.items())]
            if args.json:
                return emit("itercli.recipes/1", recipes=rows)
            width = max(len(r["name"]) for r in rows)
            for row in rows:
                print(f"{row['name']:<{width}}  {row['description']}")
            return 0
        if args.action == "new":
            return _new(args, known)
        if args.name not in known:
            return _unknown(args.name, known)
        if args.action == "copy":
            target = args.to or Path("recipes/recipe") / f"{args.name}.yaml"
            if target.exists():
                return fail(f"{target} exists; choose another with --to", 2)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(known[args.name].read_text())
            print(f"{target}: edit it, then `iter run recipe={target}`")
            return 0
        composed = compose_recipe([f"recipe={args.name}", *args.overrides], args.recipes)
        if args.json:
            return emit("itercli.recipe/1", recipe=composed.raw, file=str(known[args.name]))
        import yaml

        print(f"# {known[args.name]}")
        print(yaml.safe_dump(composed.raw, sort_keys=False, allow_unicode=True).rstrip())
    except RecipeError as error:
        return fail_recipe(error, args.json)
    return 0


def _unknown(name: str | None, known: Collection[str]) -> int:
    near = nearest(name or "", known)
    hint = f"; did you mean {near}?" if near else f"; there are: {', '.join(known)}"
    return fail(f"no recipe {name!r}{hint}" if name else "which recipe?" + hint[1:], 2)


def _new(args: argparse.Namespace, known: Collection[str]) -> int:
    """Write a recipe that derives from another, check it, and say how to go on."""
    from itercli.recipe.compose import compose_recipe
    from itercli.recipe.derive import derived
    from itercli.recipe.plan import build_plan
    from itercli.recipe.trust import check_composed

    if not args.name or not NAME.fullmatch(args.name):
        return fail(f"a recipe's name is letters, digits, _, . and -, not {args.name or ''!r}", 2)
    if args.base not in known:
        return _unknown(args.base, known) if args.base else fail("derive from which recipe? --from RECIPE", 2)
    target = args.to or Path("recipes/recipe") / f"{args.name}.yaml"
    if target.exists() or args.name in known:
        what = target if target.exists() else f"recipe {args.name}"
        return fail(f"{what} exists; choose another name{' or --to' if target.exists() else ''}", 2)
    if target.suffix not in (".yaml", ".yml"):
        return fail(f"--to {target}: a recipe's file ends in .yaml", 2)

    def load(recipe: str) -> Recipe:
        composed = compose_recipe([f"recipe={recipe}"], args.recipes)
        return check_composed(composed)

    text = derived(args.name, args.base, load(args.base))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    stages = len(build_plan(load(str(target)), provisional=True).nodes)
    recipe = target if args.to else args.name
    print(f"{target}: derives from {args.base}, valid, {stages} stages. Edit it, then:")
    for command in ("validate", "plan", "run"):
        print(f"  iter {command} recipe={shlex.quote(str(recipe))}")
    return 0


def _describe(name: str, path: Path, raw: object) -> dict[str, str]:
    mapping = raw if isinstance(raw, dict) else {}
    return {
        "name": name,
        "description": str(mapping.get("description", "")),
        "paper": str(mapping.get("paper", "")),
        "file": str(path),
    }

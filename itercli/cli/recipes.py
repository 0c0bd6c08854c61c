"""List recipes, show one as composed, or copy one to make it your own."""

from __future__ import annotations

import argparse
from pathlib import Path

from itercli.cli.common import emit, fail, fail_recipe
from itercli.recipe.errors import RecipeError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", nargs="?", choices=("list", "show", "copy"), default="list")
    parser.add_argument("name", nargs="?", help="recipe to show or copy")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="with show: overrides")
    parser.add_argument("--to", type=Path, help="with copy: file to write (recipes/recipe/NAME.yaml)")
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
        if args.name not in known:
            near = nearest(args.name or "", known)
            hint = f"; did you mean {near}?" if near else f"; there are: {', '.join(known)}"
            return fail(f"no recipe {args.name!r}{hint}" if args.name else "which recipe?" + hint[1:], 2)
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


def _describe(name: str, path: Path, raw: object) -> dict[str, str]:
    mapping = raw if isinstance(raw, dict) else {}
    return {
        "name": name,
        "description": str(mapping.get("description", "")),
        "paper": str(mapping.get("paper", "")),
        "file": str(path),
    }

"""Continue an interrupted run, by default the newest one, with the recipe it was started with."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from itercli.cli.common import add_runs_argument, add_trust_argument, fail, fail_recipe
from itercli.recipe.errors import RecipeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run_name", nargs="?", metavar="RUN", help="name, its beginning, or path (newest)")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of a live display")
    add_trust_argument(parser)
    add_runs_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.cli.execute import execute
    from itercli.engine.checked import Damaged
    from itercli.engine.runs import Run
    from itercli.recipe.compose import load_yaml
    from itercli.recipe.plan import build_plan
    from itercli.recipe.schema import check
    from itercli.recipe.trust import inside, plugin_refusals
    from itercli.report.runs import lookup

    try:
        found = lookup(args.runs, args.run_name)
        config = found.path.resolve() / "config.yaml"
        found = Run(config.parent)
        project = Path.cwd()
        # Paths in a recipe are relative to where it was started.
        folder = Path(found.info.get("folder", "."))
        if folder.is_dir():
            os.chdir(folder)
        found.config_text()  # not with options that nobody chose
        raw = load_yaml(config)
        strange = None if args.trust or inside(config, project) else config
        refused = plugin_refusals(raw, Path.cwd(), project, strange, str(config))
        recipe = check(raw, base=Path.cwd(), locate=lambda key: str(config), refused=refused)
        plan = build_plan(recipe, download=True)
    except (LookupError, Damaged) as error:
        return fail(error)
    except RecipeError as error:
        return fail_recipe(error)
    return execute(
        plan,
        root=found.root,
        name=found.name,
        overrides=found.info.get("overrides", []),
        again=shlex.join(["iter", "resume", *sys.argv[2:]]) if sys.argv[1:2] == ["resume"] else None,
        plain=args.plain,
    )

"""Print the JSON Schema of recipe files for editors, or the options of one stage.

  iter schema > .recipe.schema.json    for editors: completion, help and marks while you type
  iter schema --stage sample           the options of one stage, as `iter parts stage sample`
  iter schema --plugin my_scorer.py    with own components

A recipe file names its schema in its first line:

  # yaml-language-server: $schema=../../.recipe.schema.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from itercli.cli.common import emit, fail
from itercli.cli.parts import add_plugin_argument, load_plugins, show, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--stage", metavar="NAME", help="the options of this stage, as a table")
    add_plugin_argument(parser)
    parser.add_argument("--json", action="store_true", help="with --stage: machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.recipe.json_schema import recipe_schema
    from itercli.recipe.parts import names, part

    if problem := load_plugins(args):
        return fail(problem, 2)
    if args.stage is None:
        print(json.dumps(recipe_schema(), indent=1, ensure_ascii=False))
        return 0
    try:
        stage = part("stage", args.stage)
    except KeyError:
        return fail(unknown("stage", args.stage, names("stage")), 2)
    if args.json:
        options = [asdict(option) for option in stage.options]
        return emit("itercli.stage/1", stage=stage.name, description=stage.description, options=options)
    show(stage)
    return 0

"""Print the JSON Schema of recipe files for editors, or the options of one stage.

  iter schema > .recipe.schema.json    for editors: completion, help and marks while you type
  iter schema --stage sample           the options of one stage
  iter schema --plugin my_scorer.py    with own components

A recipe file names its schema in its first line:

  # yaml-language-server: $schema=../../.recipe.schema.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from itercli.cli.common import emit, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--stage", metavar="NAME", help="the options of this stage, as a table")
    parser.add_argument(
        "--plugin", action="append", default=[], type=Path, metavar="FILE", help="with a plug-in (repeatable)"
    )
    parser.add_argument("--json", action="store_true", help="with --stage: machine-readable output")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli import registry
    from itercli.recipe.errors import nearest
    from itercli.recipe.json_schema import recipe_schema, stage_options

    for path in args.plugin:
        try:
            registry.load_plugin(path)
        except Exception as error:  # a user's file may raise anything on import
            return fail(f"--plugin {path} can't be imported: {type(error).__name__}: {error}", 2)
    if args.stage is None:
        print(json.dumps(recipe_schema(), indent=1, ensure_ascii=False))
        return 0
    cls = registry.find("stage", args.stage)
    if cls is None:
        known = registry.names("stage")
        near = nearest(args.stage, known)
        return fail(
            f"no stage {args.stage!r}; did you mean {near}?" if near else _unknown(args.stage, known), 2
        )
    options = stage_options(args.stage)
    what = (cls.__doc__ or "").strip()
    if args.json:
        return emit("itercli.stage/1", stage=args.stage, description=what, options=options)
    _show(args.stage, what, options)
    return 0


def _unknown(name: str, known: list[str]) -> str:
    return f"no stage {name!r}; there are: {', '.join(known)}"


def _show(name: str, what: str, options: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in ("option", "type", "default", "help"):
        table.add_column(column, overflow="fold")
    for option in options:
        default = "must be given" if option["required"] else _plain(option["default"])
        how = " (changes no result)" if option["how"] else ""
        table.add_row(Text(option["key"]), Text(option["type"]), Text(default), Text(option["help"] + how))
    console = Console(highlight=False)
    console.print(Text.assemble((name, "bold"), f": {what}"))
    console.print()
    console.print(table)


def _plain(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

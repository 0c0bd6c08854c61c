"""List what recipes are made of: stages, sources, scorers, selectors, metrics, records ...

  iter parts                        the kinds
  iter parts scorer                 all scorers
  iter parts scorer functional      one: its options, the fields that it reads, an example
  iter parts record Score           the fields of a row
  iter parts --plugin my_scorer.py scorer

With --json: {"schema": "itercli.parts/1", "parts": [{kind, name, summary, description, reads,
options: [{key, type, required, default, help, how}], example}]}.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itercli.cli.common import emit, fail

if TYPE_CHECKING:
    from itercli.recipe.parts import Option, Part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help="one kind of parts")
    parser.add_argument("name", nargs="?", metavar="NAME", help="one part")
    add_plugin_argument(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def add_plugin_argument(parser: argparse.ArgumentParser) -> None:
    """Plug-ins whose components count too."""
    parser.add_argument(
        "--plugin", action="append", default=[], type=Path, metavar="FILE", help="with a plug-in (repeatable)"
    )


def load_plugins(args: argparse.Namespace) -> str:
    """Import the plug-ins of the arguments; returns what is wrong with one."""
    from itercli import registry

    for path in args.plugin:
        try:
            registry.load_plugin(path)
        except Exception as error:  # a user's file may raise anything on import
            return f"--plugin {path} can't be imported: {type(error).__name__}: {error}"
    return ""


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from itercli.recipe.parts import ABOUT, KINDS, names, part

    if problem := load_plugins(args):
        return fail(problem, 2)
    if args.kind is not None and args.kind not in KINDS:
        return fail(unknown("kind of parts", args.kind, KINDS), 2)
    kinds = [args.kind] if args.kind else KINDS
    if args.name is not None:
        try:
            found = [part(args.kind, args.name)]
        except KeyError:
            return fail(unknown(args.kind, args.name, names(args.kind)), 2)
    elif args.json or args.kind:
        found = [part(kind, name) for kind in kinds for name in names(kind)]
    else:
        _print_table([(kind, f"{len(names(kind))}", ABOUT[kind]) for kind in kinds])
        print("\n`iter parts KIND` lists one kind, `iter parts KIND NAME` shows a part with an example.")
        return 0
    if args.json:
        return emit("itercli.parts/1", parts=[p.to_json() for p in found])
    if args.name is not None:
        show(found[0])
    else:
        _print_table([(p.name, p.summary) for p in found])
    return 0


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """The error for a name that does not exist, with the one that was probably meant."""
    from itercli.recipe.errors import nearest

    near = nearest(name, list(known))
    return f"no {kind} {name!r}; " + (f"did you mean {near}?" if near else f"there are: {', '.join(known)}")


def show(part: Part) -> None:
    """Print one part for a person."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text.assemble((part.name, "bold"), f": {part.description}"))
    if part.options:
        console.print()
        console.print(_options(part.options, fields=part.kind == "record"))
        if part.kind not in ("record", "tracker"):
            console.print(
                "A number may also be a list, its values by iteration; the last one goes on.", style="dim"
            )
    if part.reads:
        console.print()
        console.print(Text(f"reads: {', '.join(part.reads)}"))
    if part.example:
        console.print()
        console.print(Text("in a recipe:", style="bold"))
        console.print(Text("".join(f"  {line}\n" for line in part.example.splitlines()), end=""))


def _options(options: tuple[Option, ...], *, fields: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    from itercli.recipe.parts import KINDS

    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in ("field" if fields else "option", "type", "default", "help"):
        table.add_column(column, overflow="fold")
    for option in options:
        default = _plain(option.default)
        if option.required:
            default = "" if fields else "must be given"
        kind = next((k for k in KINDS if k == option.type), None)
        more = f" (`iter parts {kind}` lists them)" if kind else ""
        how = " (changes no result)" if option.how else ""
        table.add_row(Text(option.key), Text(option.type), Text(default), Text(option.help + more + how))
    return table


def _plain(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)

"""The argument parser of a command: argparse, and which name was probably meant."""

from __future__ import annotations

import argparse
import importlib
import re
from typing import NoReturn

UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)
CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """Errors end with the nearest option or value."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 2."""
        near = self._near(message)
        super().error(f"{message}. Did you mean {near}?" if near else message)

    def _near(self, message: str) -> str:
        from itercli.recipe.errors import nearest

        if match := CHOICE.search(message):
            return nearest(match[1], re.findall(r"[\w.-]+", match[2]))
        words = UNKNOWN.search(message)
        names = [o for o in self._option_string_actions if o.startswith("--")]
        options = [w for w in words[1].split() if w.startswith("--")] if words else []
        hits = (nearest(option.partition("=")[0], names) for option in options)
        return next(filter(None, hits), "")


def command_parser(name: str) -> Parser:
    """The parser of `iter NAME`; imports the command's module."""
    module = importlib.import_module(f"itercli.cli.{name}")
    parser = Parser(
        prog=f"iter {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    parser.set_defaults(_run=module.run)
    return parser

"""Errors of a recipe: collected, located, and with the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from itercli.errors import IterError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a recipe.

    Attributes:
        key: Dotted key path, for example ``loop.sample.n``.
        what: What is wrong, in a sentence without a full stop.
        found: The value that was found, as text.
        allowed: What would be right: a type, a range or names.
        nearest: The name probably meant.
        where: File and line, or the command-line override, that set the key.
    """

    key: str
    what: str
    found: str = ""
    allowed: str = ""
    nearest: str = ""
    where: str = ""

    def __str__(self) -> str:
        lines = [f"{self.key}: {self.what}" if self.key else self.what]
        if self.where:
            lines.append(f"    in:      {self.where}")
        if self.found:
            lines.append(f"    found:   {self.found}")
        if self.allowed:
            lines.append(f"    allowed: {self.allowed}")
        if self.nearest:
            lines.append(f"    did you mean: {self.nearest}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, str]:
        """The problem as a flat mapping."""
        return asdict(self)


class RecipeError(IterError):
    """A recipe that can't be run; `problems` holds everything found in one pass."""

    def __init__(self, problems: Iterable[Problem], recipe: str = "") -> None:
        self.problems = list(problems)
        self.recipe = recipe
        super().__init__(self.render())

    def render(self) -> str:
        """The report shown to the user."""
        n = len(self.problems)
        title = f"{n} problem{'s' * (n != 1)} in recipe {self.recipe}".rstrip()
        return "\n\n".join([title, *(str(p) for p in self.problems)])


def nearest(name: str, names: Iterable[str]) -> str:
    """The known name closest to `name`, or an empty string."""
    hits = difflib.get_close_matches(str(name), list(names), n=1, cutoff=0.55)
    return hits[0] if hits else ""


def shorten(value: Any, limit: int = 100) -> str:
    """`repr` of a value, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

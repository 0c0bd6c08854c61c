"""Parts of recipe pages: tables, links, settings, what is set otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from recipe_page_schema import MISSING, Option, holds_options, option, value_at
from recipe_page_yaml import Written, plain

from itercli.recipe.compose import Composed, compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.schema import SCOPES

WIRING = {"uses", "role"}  # in the table of stages


@cache
def missing_values(*overrides: str) -> tuple[list[str], Composed]:
    """Compose a recipe; what it leaves for the user to give (``???``) gets a placeholder.

    Returns:
        The overrides that were added, and the recipe.
    """
    added: list[str] = []
    while True:
        try:
            return added, compose_recipe([*overrides, *added])
        except RecipeError as error:
            key = error.problems[0].key
            if not key or any(a.startswith(f"{key}=") for a in added):
                raise
            added.append(f"{key}={key.rpartition('.')[2]}.jsonl")


def settings(values: dict[str, Any], prefix: str, raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values, down to the options that the composed recipe `raw` has there."""
    for name, value in values.items():
        path = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, dict) and value and holds_options(path.split("."), raw):
            yield from settings(value, path, raw)
        else:
            yield path, value


def changes(written: Written, base: dict[str, Any]) -> Iterator[list[str]]:
    """Rows for all that `written` sets otherwise than `base`: key, before, after, remark."""
    for path, value in settings(written.values, "", base):
        parts = path.split(".")
        about, before = option(parts, base), value_at(parts, base)
        if path in ("name", "description", "paper") or before == value:
            continue
        comment = written.comments.get(path, "")
        if len(parts) == 2 and parts[0] in SCOPES:
            was = "" if before in (MISSING, None) else "stage"
            yield [f"`{path}`", was, "left out" if value is None else code(value), comment]
        elif before is not MISSING:
            yield [f"`{path}`", code(before), code(value), comment]
        elif about is None or about.default != plain(value):
            was = f"`{about.default}`" if about and about.default else ""
            yield [f"`{path}`", was, code(value), meaning(about, comment)]


def meaning(about: Option | None, comment: str) -> str:
    """What the schema and the recipe say of an option; choices that both list come once."""
    if about and about.choices:
        comment = re.sub(r"^\w+(?: \| \w+)+(?:; )?", "", comment)
    listed = " | " in comment
    said = [about.meaning, "" if listed else about.choices] if about else []
    said.append(f"Here: {comment}" if comment and not listed else comment)
    said.append("" if about is None or about.changes else "*Runs nothing again.*")
    return " ".join(s if s[-1] in ".?*" else f"{s}." for s in said if s)


def code(value: Any) -> str:
    """A value as code."""
    return f"`{plain(value)}`"


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table; bars in cells are escaped, for GitHub splits cells at them even in code."""
    cells = [[c.replace("|", "\\|").replace("\n", " ") for c in row] for row in [header, *rows]]
    if len(cells) == 1:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def links(text: str) -> str:
    """arXiv numbers and names of hand-written pages as links."""
    text = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"docs/(\w+)\.md", r"[\1](../\1.md)", text)

"""Writes a page for each shipped recipe into docs/recipes, from its YAML, comments and the schema.

    python scripts/recipe_pages.py            # write the pages
    python scripts/recipe_pages.py --check    # fail if they differ from what would be written

A comment in a recipe reaches its page: the head comment on top, that of a stage in the table of
stages, that of an option beside it. A hand-written page is linked by the recipe's name, or where
the head comment names ``docs/NAME.md``.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from recipe_page import Page
from recipe_page_parts import table

from itercli.recipe.tree import builtin_dir

PAGES = Path(__file__).resolve().parents[1] / "docs" / "recipes"
INDEX = """\
# The shipped recipes

<!-- Made by scripts/recipe_pages.py: `make pages`. -->

Every stage and every option that a recipe sets, made from its YAML file. What the parts of a recipe
are, and how to write one: [recipes](../recipes.md), [your own loop](../your_own_loop.md).

{table}
"""


def pages() -> dict[str, str]:
    """File name -> text of all pages."""
    names = sorted(p.stem for p in (builtin_dir() / "recipe").glob("*.yaml"))
    made = {n: Page(n, names) for n in names}
    rows = []
    for name, page in made.items():
        sizes = ", ".join(f"`scale={preset}`" for preset in page.presets)
        rows.append([f"[{name}]({name}.md)", page.composed.raw["description"], sizes])
    index = INDEX.format(table=table(["recipe", "what it does", "other sizes"], rows))
    return {"README.md": index, **{f"{n}.md": p.text() for n, p in made.items()}}


def main() -> int:
    """Write the pages, or compare them."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    checking = parser.parse_args().check
    wanted, stale = pages(), False
    there = {p.name: p.read_text() for p in PAGES.glob("*.md")} if PAGES.is_dir() else {}
    for name in sorted(wanted.keys() | there.keys()):
        old, new = there.get(name, ""), wanted.get(name, "")
        if old == new:
            continue
        stale = True
        if checking:
            lines = [text.splitlines(keepends=True) for text in (old, new)]
            diff = difflib.unified_diff(lines[0], lines[1], f"docs/recipes/{name}", "made from the recipe")
            sys.stdout.writelines(diff)
        elif new:
            PAGES.mkdir(exist_ok=True)
            (PAGES / name).write_text(new)
        else:
            (PAGES / name).unlink()
    if checking and stale:
        print(
            "docs/recipes is out of date: `make pages` (python scripts/recipe_pages.py) writes it anew",
            file=sys.stderr,
        )
    return int(checking and stale)


if __name__ == "__main__":
    sys.exit(main())

"""The config tree: where recipes and their parts lie, ours and the user's."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from itercli.recipe.errors import Problem, RecipeError

ROOT_CONFIG = "iter"
# Config groups of the tree and the top-level key that their content lands under.
GROUP_KEYS = {
    "recipe": "",
    "model": "model",
    "data": "data",
    "sampler": "sampler",
    "trainer": "training",
    "tracker": "tracker",
    "executor": "executor",
    "scale": "",
}
OVERRIDE = re.compile(r"^(?P<prefix>\+\+|\+|~)?(?P<key>[^=]+?)(?:=(?P<value>.*))?$", re.DOTALL)


def builtin_dir() -> Path:
    """The shipped config tree: package data in a wheel, `recipes/` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def user_dirs(extra: Sequence[str | Path] = ()) -> list[Path]:
    """Recipe folders of the user, first wins: --recipes, $ITER_RECIPES, ./recipes.

    Raises:
        RecipeError: A folder that was named doesn't exist.
    """
    named = [(Path(p), "--recipes") for p in extra]
    named += [(Path(p), "ITER_RECIPES") for p in os.environ.get("ITER_RECIPES", "").split(os.pathsep) if p]
    found = []
    for path, origin in named:
        if not path.is_dir():
            raise RecipeError([Problem("", f"recipe folder {str(path)!r} does not exist", where=origin)])
        found.append(path.resolve())
    here = Path("recipes").resolve()
    if here.is_dir() and here != builtin_dir().resolve():
        found.append(here)
    return list(dict.fromkeys(found))


def options(group: str, recipes: Sequence[str | Path] = ()) -> dict[str, Path]:
    """Option names of a config group with their files; the user's come first."""
    found: dict[str, Path] = {}
    for directory in [*user_dirs(recipes), builtin_dir()]:
        for path in sorted((directory / group).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found

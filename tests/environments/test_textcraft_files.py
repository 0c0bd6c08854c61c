"""Reading recipe files: what becomes an item, a kind, a recipe, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itercli.environments.base import EnvironmentFailed
from itercli.environments.textcraft_files import load_rules, recipe_digest, recipe_folder
from itercli.environments.textcraft_rules import Ingredient, Recipe


def item(name: str) -> dict[str, str]:
    return {"item": f"minecraft:{name}"}


def tag(name: str) -> dict[str, str]:
    return {"tag": f"minecraft:{name}"}


def shapeless(output: str, *ingredients: Any, count: int = 1, group: str | None = None) -> dict[str, Any]:
    data = {
        "type": "minecraft:crafting_shapeless",
        "ingredients": list(ingredients),
        "result": {**item(output), "count": count},
    }
    return data | ({"group": group} if group else {})


def folder(path: Path, **files: dict[str, Any]) -> Path:
    for name, data in files.items():
        (path / f"{name}.json").write_text(json.dumps(data))
    return path


def test_the_package_has_what_it_is_known_for() -> None:
    rules = load_rules(recipe_folder())
    assert sum(map(len, rules.recipes.values())) == 613
    assert (len(rules.items), len(rules.kinds), len(rules.recipes)) == (676, 23, 544)


def test_shapes_are_counted_and_alternatives_give_their_first(tmp_path: Path) -> None:
    torch = {
        "type": "minecraft:crafting_shaped",
        "pattern": ["X ", "##"],
        "key": {"#": item("stick"), "X": [item("coal"), item("charcoal")]},
        "result": {**item("torch"), "count": 4},
    }
    rules = load_rules(folder(tmp_path, torch=torch, furnace={"type": "minecraft:smelting"}))
    (recipe,) = rules.recipes["minecraft:torch"]
    assert recipe.command == "craft 4 torch using 2 stick, 1 coal"
    assert list(rules.recipes) == ["minecraft:torch"]
    assert rules.can_get("minecraft:coal")
    assert not rules.can_get("minecraft:charcoal")


def test_a_group_names_a_kind_and_a_tag_nobody_belongs_to_is_an_item(tmp_path: Path) -> None:
    rules = load_rules(
        folder(
            tmp_path,
            bowl=shapeless("bowl", tag("planks"), tag("planks"), tag("planks")),
            oak=shapeless("oak_planks", tag("oak_logs"), count=4, group="planks"),
            birch=shapeless("birch_planks", tag("birch_logs"), count=4, group="planks"),
        )
    )
    assert rules.kinds == {"minecraft:planks": ("minecraft:birch_planks", "minecraft:oak_planks")}
    assert rules.can_get("minecraft:oak_logs")
    assert not rules.can_get("minecraft:planks")
    assert rules.recipes["minecraft:bowl"] == (
        Recipe("minecraft:bowl", 1, (Ingredient("minecraft:planks", 3, True),)),
    )
    assert rules.depths == {"minecraft:bowl": 2, "minecraft:oak_planks": 1, "minecraft:birch_planks": 1}
    assert len(rules.below("minecraft:bowl")) == 3


def test_cycles_are_cut_at_the_later_file_also_through_kinds(tmp_path: Path) -> None:
    rules = load_rules(
        folder(
            tmp_path,
            a=shapeless("ingot", *[item("nugget")] * 9),
            b=shapeless("nugget", item("ingot"), count=9),
            c=shapeless("box", tag("boards")),
            d=shapeless("board", item("box"), group="boards"),
            e=shapeless("plank", item("log"), group="boards"),
        )
    )
    assert list(rules.recipes) == ["minecraft:ingot", "minecraft:box", "minecraft:plank"]
    assert rules.can_get("minecraft:nugget")
    assert rules.depths["minecraft:box"] == 1  # a board that nobody crafts is there to be taken


def test_a_lone_block_is_not_taken_apart(tmp_path: Path) -> None:
    rules = load_rules(
        folder(
            tmp_path,
            coal=shapeless("coal", item("coal_block"), count=9),
            lamp=shapeless("lamp", item("coal_block"), item("glass")),
        )
    )
    assert list(rules.recipes) == ["minecraft:lamp"]
    assert rules.can_get("minecraft:coal")


def test_the_digest_follows_names_and_contents(tmp_path: Path) -> None:
    found = []
    for n, (name, data) in enumerate(
        [("a", shapeless("x", item("y"))), ("b", shapeless("x", item("y"))), ("a", shapeless("x", item("z")))]
    ):
        path = tmp_path / str(n)
        path.mkdir()
        found.append(recipe_digest(folder(path, **{name: data})))
    assert len(set(found)) == 3


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "door.json").write_text('{"type": "minecraft:crafting_shapeless", "ingredients": [{}]}')
    with pytest.raises(EnvironmentFailed, match=r"door\.json: no recipe"):
        load_rules(tmp_path)

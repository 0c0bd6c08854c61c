"""The solver: it uses leftovers, keeps what is meant for something, and may vary its ways."""

from __future__ import annotations

import random

import pytest

from itercli.environments.textcraft import TextCraft
from itercli.environments.textcraft_rules import Ingredient, Recipe, Rules
from itercli.environments.textcraft_solver import solve


def rules(*recipes: Recipe, **kinds: tuple[str, ...]) -> Rules:
    ways: dict[str, tuple[Recipe, ...]] = {}
    for recipe in recipes:
        ways[recipe.output] = (*ways.get(recipe.output, ()), recipe)
    names = {i.name for r in recipes for i in r.ingredients}
    return Rules(ways, kinds, frozenset({*ways, *names} - {*kinds}))


def recipe(output: str, count: int = 1, /, **ingredients: int) -> Recipe:
    return Recipe(output, count, tuple(Ingredient(name, n) for name, n in ingredients.items()))


def test_leftovers_are_used_and_reserved_items_are_not() -> None:
    game = rules(recipe("plank", 4, log=1), recipe("stick", 4, plank=2), recipe("sign", plank=2, stick=1))
    # Two planks are put aside for the sign, the two left over become sticks.
    assert solve(game, "sign") == [
        "get 1 log",
        "craft 4 plank using 1 log",
        "craft 4 stick using 2 plank",
        "craft 1 sign using 2 plank, 1 stick",
    ]


def test_missing_amounts_are_fetched_for_all_batches_at_once() -> None:
    game = rules(recipe("brick", 2, clay=3), recipe("wall", brick=5))
    assert solve(game, "wall") == [
        "get 9 clay",
        *["craft 2 brick using 3 clay"] * 3,
        "craft 1 wall using 5 brick",
    ]


def test_the_cheaper_recipe_is_taken() -> None:
    game = rules(recipe("x", y=1), recipe("x", z=1), recipe("y", z=1))
    assert solve(game, "x") == ["get 1 z", "craft 1 x using 1 z"]


def test_equal_ways_vary_with_a_generator_and_all_reach_the_goal() -> None:
    world = TextCraft().build()
    goal = "minecraft:chest"
    found = {tuple(solve(world.rules, goal, random.Random(n))) for n in range(20)}
    assert len(found) > 3
    for actions in found:
        world.reset({"goal": goal})
        assert [world.step(action).done for action in actions][-1]


def test_what_cannot_be_crafted_is_no_goal() -> None:
    with pytest.raises(KeyError):
        solve(rules(recipe("x", y=1)), "y")


def test_a_plan_goes_on_from_what_is_there() -> None:
    game = rules(recipe("plank", 4, log=1), recipe("sign", plank=3, stick=1))
    assert solve(game, "sign", have={"plank": 3, "mud": 9}) == [
        "get 1 stick",
        "craft 1 sign using 3 plank, 1 stick",
    ]

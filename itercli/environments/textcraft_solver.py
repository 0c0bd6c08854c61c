"""Solves every goal of TextCraft: for tests, and for trajectories that a model can begin from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import TypeVar

from itercli.environments.textcraft_rules import Recipe, Rules, words

T = TypeVar("T")


def solve(
    rules: Rules, goal: str, rng: random.Random | None = None, have: Mapping[str, int] | None = None
) -> list[str]:
    """Actions that craft `goal` from what is there already, the last of them the goal itself.

    Each ingredient is completed before the next one is begun, in the order of the recipe, and
    whatever is left over from a craft is used later. Among recipes, and items of a kind, the one
    with the fewest actions is taken, leftovers not considered: short, not always the shortest.

    Args:
        rng: Chooses among equally short ways; without it the first one is taken.
        have: The inventory to begin with; nothing if not given.

    Raises:
        KeyError: The goal can't be crafted.
    """
    return [action for _, action in explain(rules, goal, rng, have)]


def explain(
    rules: Rules, goal: str, rng: random.Random | None = None, have: Mapping[str, int] | None = None
) -> list[tuple[tuple[str, ...], str]]:
    """What `solve` does, each action with what it is for.

    Returns:
        (chain, action) of each step; the chain goes from the goal through what is needed for it
        ("6 oak planks") to what the action gets or crafts.

    Raises:
        KeyError: The goal can't be crafted.
    """
    if goal not in rules.recipes:
        raise KeyError(goal)
    return _Solver(rules, rng, have or {}).run(goal)


class _Solver:
    def __init__(self, rules: Rules, rng: random.Random | None, have: Mapping[str, int]) -> None:
        self.rules, self.rng = rules, rng
        self.steps: list[tuple[tuple[str, ...], str]] = []
        self.chain: tuple[str, ...] = ()
        self.spare = Counter(have)  # what is there and not yet meant for anything
        self.cost = cache(self._cost)

    def run(self, goal: str) -> list[tuple[tuple[str, ...], str]]:
        self._provide(goal, 1)
        return self.steps

    def _provide(self, item: str, count: int) -> None:
        """Take `count` of an item out of the spare ones, making what is missing."""
        missing = count - self.spare[item]
        above = self.chain
        self.chain = (*above, f"{missing} {words(item)}" if above else words(item))
        if missing > 0 and item in self.rules.recipes:
            recipe = self._choose(self.rules.recipes[item], missing)
            batches = -(-missing // recipe.count)
            used = []
            for need in recipe.ingredients:
                name = self._specific(need.name, need.count * batches) if need.is_kind else need.name
                self._provide(name, need.count * batches)
                used.append(f"{need.count} {words(name)}")
            command = f"craft {recipe.count} {words(item)} using {', '.join(used)}"
            self.steps += [(self.chain, command)] * batches
            self.spare[item] += recipe.count * batches
        elif missing > 0:
            self.steps.append((self.chain, f"get {missing} {words(item)}"))
            self.spare[item] += missing
        self.spare[item] -= count
        self.chain = above

    def _specific(self, kind: str, count: int) -> str:
        """An item of a kind: one that is there, else the cheapest."""
        items = self.rules.kinds[kind]
        there = next((item for item in items if self.spare[item] >= count), None)
        return there or self._cheapest({item: self.cost(item, count) for item in items})

    def _choose(self, ways: tuple[Recipe, ...], count: int) -> Recipe:
        return self._cheapest({way: self._recipe_cost(way, count) for way in ways})

    def _cheapest(self, costs: dict[T, int]) -> T:
        low = min(costs.values())
        best = [choice for choice, cost in costs.items() if cost == low]
        return self.rng.choice(best) if self.rng else best[0]

    def _cost(self, name: str, count: int) -> int:
        """Actions for so many of an item or kind, from nothing."""
        if name in self.rules.kinds:
            return min(self.cost(item, count) for item in self.rules.kinds[name])
        ways = self.rules.recipes.get(name)
        return min(self._recipe_cost(way, count) for way in ways) if ways else 1

    def _recipe_cost(self, recipe: Recipe, count: int) -> int:
        batches = -(-count // recipe.count)
        return batches + sum(self.cost(i.name, i.count * batches) for i in recipe.ingredients)

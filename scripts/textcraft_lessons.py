"""Games of TextCraft to learn from: real goals and other recipe books, played well or with slips.

Other books - made up, or the real one with its words exchanged - keep a small model from learning the
few hundred real recipes by heart: it has to look up the listed commands and copy names from them. An
answer has two lines: what the action is for, from the goal down ("oak door: 6 oak planks: 2 oak logs"),
and the action. A game with slips goes wrong somewhere. Then the player wanders on, as the model is
meant to do (see its card); in games that teach, it says `wait` after a while and finds back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cached_property

from itercli.environments.textcraft import TextCraftConversation, TextCraftWorld
from itercli.environments.textcraft_rules import Ingredient, Recipe, Rules, item_id, words
from itercli.environments.textcraft_solver import explain
from itercli.records import Dialogue, Message

CONVERSATION = TextCraftConversation(instruction="", action="line")
WAIT, ANSWER = "wait", "ok."  # what a player says who notices that it went wrong, see `environment.intercept`
DISTRACTORS = 6  # at most; each game has its own number
LONGEST = 10  # actions of a plan; longer ones are left out
# As often as in the real recipes.
USED = [1] * 10 + [2] * 4 + [3] * 4 + [4] * 4 + [5] + [6] * 4 + [7] + [8] * 3 + [9]
MADE = [1] * 10 + [2] * 2 + [3] * 3 + [4] * 3 + [6] * 2 + [8] * 2 + [16]


@dataclass(frozen=True)
class Habits:
    """How a player fails.

    Attributes:
        slip: Probability of a mistake at each step of a plan.
        wander: Steps after a mistake at most, then the game is given up.
        taught: Share of games that teach to recover: their mistakes are seen, but not learnt.
        recover: In those, the probability at each step after a mistake to say `wait` and find back to a plan.
    """

    slip: float = 0.0
    wander: int = 6
    taught: float = 0.0
    recover: float = 0.3


@dataclass(frozen=True)
class Book:
    """Recipes, the goals to play for, and what plans are likely to confuse."""

    rules: Rules
    goals: list[str]

    @cached_property
    def vocabulary(self) -> list[str]:
        """Words that item names are made of."""
        return sorted({word for item in self.rules.items for word in words(item).split()})


def made_up(vocabulary: list[str], rng: random.Random) -> Book:
    """A book of a dozen recipes over new items; some share a word, as woods and colours do."""
    heads, tails = rng.sample(vocabulary, 5), rng.sample(vocabulary, 6)
    names = list(
        dict.fromkeys(
            f"{rng.choice(heads)} {rng.choice(tails)}" if rng.random() < 0.7 else rng.choice(vocabulary)
            for _ in range(24)
        )
    )
    # Sometimes a kind, as planks are: any item of it will do.
    kind = rng.choice(tails)
    low = [f"{head} {kind}" for head in heads[:2]]
    names = [name for name in names if name not in (kind, *low)]
    kinds = {item_id(kind): tuple(map(item_id, low))} if rng.random() < 0.4 else {}
    raw, low, high = names[:7], [*low, *names[7:10]], names[10:]

    def recipe(output: str, below: list[str]) -> Recipe:
        chosen = rng.sample(below, rng.choice((1, 1, 2, 2, 3)))
        chosen = dict.fromkeys(kind if kinds and name in low[:2] else name for name in chosen)
        needs = (Ingredient(item_id(name), rng.choice(USED), bool(kinds) and name == kind) for name in chosen)
        return Recipe(item_id(output), rng.choice(MADE), tuple(needs))

    recipes = [recipe(name, raw) for name in low] + [recipe(name, [*raw[:4], *low]) for name in high]
    goals = {r.output: (r,) for r in recipes}
    return Book(Rules(goals, kinds, frozenset(map(item_id, names)) | goals.keys()), list(goals))


def swapped(book: Book, rng: random.Random) -> Book:
    """The same recipes with all words exchanged: what is real of them is how they hang together."""
    other = dict(zip(book.vocabulary, rng.sample(book.vocabulary, len(book.vocabulary)), strict=True))

    def name(item: str) -> str:
        return item_id(" ".join(other.get(word, word) for word in words(item).split()))

    def recipe(old: Recipe) -> Recipe:
        needs = (replace(need, name=name(need.name)) for need in old.ingredients)
        return Recipe(name(old.output), old.count, tuple(needs))

    old = book.rules
    rules = Rules(
        {name(goal): tuple(map(recipe, ways)) for goal, ways in old.recipes.items()},
        {name(kind): tuple(map(name, items)) for kind, items in old.kinds.items()},
        frozenset(map(name, old.items)),
    )
    return Book(rules, [name(goal) for goal in book.goals])


def play(book: Book, goal: str, habits: Habits, rng: random.Random) -> Dialogue | None:
    """A game as `rollout` shows it; None where the plan is too long."""
    rules = book.rules
    plan = explain(rules, goal, rng)
    if len(plan) > LONGEST:
        return None
    world = TextCraftWorld(rules, rng.randint(0, DISTRACTORS))
    first = world.reset({"goal": goal, "seed": rng.getrandbits(32)})
    messages = CONVERSATION.open(first)
    listed = [line for line in first.splitlines() if " using " in line]
    loss = [False] * len(messages)
    taught = habits.taught > 0 and rng.random() < habits.taught
    lost: int | None = None  # steps since the mistake
    while True:
        if taught and lost is not None and rng.random() < habits.recover:
            lost, plan = None, explain(rules, goal, rng, world.inventory)
            messages += [Message(role="assistant", content=WAIT), Message(role="user", content=ANSWER)]
            loss += [True, False]
        if lost is None and rng.random() >= habits.slip:
            text = answer(*plan.pop(0))
        else:
            lost = 0 if lost is None else lost + 1
            said = [m.content for m in messages if m.role == "assistant"]
            text = mistake(listed, plan, said, rng)
        step = world.step(CONVERSATION.read(text))
        messages += [
            Message(role="assistant", content=text),
            Message(role="user", content=CONVERSATION.shown(step.observation)),
        ]
        loss += [lost is None or not taught, False]
        if step.done or (lost or 0) >= habits.wander:
            return Dialogue(prompt_id=goal, messages=messages[:-1], loss=loss[:-1])


def answer(chain: tuple[str, ...], action: str) -> str:
    """How the player writes a step."""
    return f"{': '.join(chain)}\n{action}"


def mistake(
    listed: list[str], plan: list[tuple[tuple[str, ...], str]], said: list[str], rng: random.Random
) -> str:
    """After something else that is listed, too early, in the wrong amount, or the same again."""
    command = rng.choice(listed)
    made, used = command.removeprefix("craft ").split(" using ")
    made = made.partition(" ")[2]
    choice = rng.random()
    if choice < 0.5:
        need = rng.choice(used.split(", "))
        return answer((made, need), f"get {need}")
    if choice < 0.65:
        return answer((made,), command)
    if choice < 0.75 and said:
        return said[-1]
    if choice < 0.85 and len(plan) > 1:
        return answer(*plan[-1])
    chain, action = plan[0]
    verb, amount, rest = action.split(" ", 2)
    if verb != "get":
        return answer((made,), command)
    wrong = f"{max(1, int(amount) + rng.choice((-1, 1, 2)))} {rest}"
    return answer((*chain[:-1], wrong), f"get {wrong}")

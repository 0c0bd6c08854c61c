"""Source `textcraft`: tasks of the environment of that name, in a split of our own.

A goal belongs to one split for good: within each depth, goals are ranked by a hash of their name
and cut into 70 % train, 10 % dev and 20 % test. Options choose among a split's goals, none moves a
goal to another one. Goals alike but for the wood or colour fall into different splits, and what a
goal of one split is made from may be a goal of another: the split asks for new goals, not for new
kinds of goals. There is no published split to keep to (see the environment).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from itercli.data.base import Source
from itercli.environments.textcraft_files import load_rules, recipe_digest, recipe_folder
from itercli.environments.textcraft_rules import PREFIX, Rules, words
from itercli.environments.textcraft_solver import solve
from itercli.records import Message, Prompt
from itercli.registry import register

Split = Literal["train", "dev", "test"]

# Up to which share of a depth's goals each split reaches.
SHARES: tuple[tuple[Split, float], ...] = (("test", 0.2), ("dev", 0.3), ("train", 1.0))


@register("source", "textcraft")
class TextCraftTasks(Source):
    """Goals in a fixed shuffled order, with the solver's actions, one a line, as reference.

    `meta` holds `environment`, `task` and `depth`, the crafts one upon another that it takes.

    Attributes:
        min_depth: Only goals of this depth or deeper.
        max_depth: Only goals of this depth or shallower; the deepest is 4.
        offset: Goals to skip, of those chosen.
        limit: Goals to give, None for all.
        seed: Another order of the listed commands and other useless ones among them; the goals
            stay the same.
    """

    VERSION: ClassVar[int] = 1

    split: Split = "train"
    min_depth: int = Field(1, ge=1)
    max_depth: int | None = Field(None, ge=1)
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    seed: int = 0

    def prompts(self) -> Iterator[Prompt]:
        """See `Source`.

        Raises:
            EnvironmentFailed: The recipe files are not installed; `fingerprint` says so, too.
        """
        rules = load_rules(recipe_folder())
        deepest = self.max_depth or max(rules.depths.values())
        goals = [g for g in split_goals(rules)[self.split] if self.min_depth <= rules.depths[g] <= deepest]
        stop = None if self.limit is None else self.offset + self.limit
        for goal in goals[self.offset : stop]:
            yield Prompt(
                id=f"textcraft/{goal.removeprefix(PREFIX)}/{self.seed}",
                messages=[Message(role="user", content=f"Craft {words(goal)}.")],
                reference="\n".join(solve(rules, goal)),
                meta={
                    "environment": "textcraft",
                    "task": {"goal": goal, "seed": self.seed},
                    "depth": rules.depths[goal],
                },
            )

    def fingerprint(self) -> dict[str, str]:
        return {"recipes": recipe_digest(recipe_folder())}


def split_goals(rules: Rules) -> dict[Split, list[str]]:
    """Each split's goals, depths mixed."""
    splits: dict[Split, list[str]] = {name: [] for name, _ in SHARES}
    ranked = sorted(rules.recipes, key=_rank)
    for depth in sorted(set(rules.depths.values())):
        goals = [goal for goal in ranked if rules.depths[goal] == depth]
        start = 0
        for name, share in SHARES:
            stop = round(share * len(goals))
            splits[name] += goals[start:stop]
            start = stop
    return {name: sorted(goals, key=_rank) for name, goals in splits.items()}


def _rank(goal: str) -> str:
    return hashlib.sha256(f"textcraft/{goal}".encode()).hexdigest()

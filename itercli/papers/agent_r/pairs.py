"""Good and bad paths of a search tree, and which of them make a pair."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from itercli.recipe.seeds import seed_for
from itercli.records import Tree, Turn

NEAR = 1e-9  # scores are sums of fractions


@dataclass(frozen=True, slots=True)
class Path:
    """From the first action to an end of the search.

    Attributes:
        nodes: Ids of the nodes, without the root.
        turns: One for each node.
    """

    nodes: tuple[int, ...]
    turns: tuple[Turn, ...]

    @property
    def score(self) -> float:
        """The environment's score at the end, in [0, 1]."""
        return self.turns[-1].score

    @property
    def leaf(self) -> int:
        """Id of the last node."""
        return self.nodes[-1]

    def shared(self, other: Path) -> int:
        """Number of steps, from the first, that both have in common."""
        same = (a == b for a, b in zip(self.nodes, other.nodes, strict=False))
        return next((n for n, equal in enumerate(same) if not equal), min(len(self.nodes), len(other.nodes)))


@dataclass(frozen=True, slots=True)
class Pair:
    """A good path and a bad one of one tree."""

    good: Path
    bad: Path


class PairRule(BaseModel):
    """Options that say which two leaves make a pair (Agent-R, section 3.1).

    Every two leaves of a tree are looked at, as in the released code: their common ancestor is
    where the bad path begins.
    """

    alpha: float = Field(0.5, ge=0, le=1, description="A good path scores more than this; at 1: reaches it.")
    beta: float = Field(
        0.2, ge=0, lt=1, description="A good path scores more than the bad one by more than this."
    )
    max_pairs: int | None = Field(None, ge=1, description="Pairs of a tree at most.")
    over_cap: Literal["random", "shortest"] = Field(
        "random",
        description="Of more pairs than `max_pairs`: random ones, or those with the shortest good path. A "
        "search at temperature 1 comes to many good ends by detours, which are better not learnt.",
    )

    @field_validator("alpha", mode="before")
    @classmethod
    def _one(cls, given: Any) -> Any:
        """The number, also of a list that holds it alone."""
        return given[0] if isinstance(given, list | tuple) and len(given) == 1 else given

    def pairs(
        self, tree: Tree, alpha: float, seed: int, same: Callable[[Pair], Hashable] | None = None
    ) -> tuple[list[Pair], Counter[str]]:
        """Pairs of a tree by the ids of their leaves, and why others are none.

        Args:
            same: Of pairs for which it gives equal values one is kept, so that the cap is not spent on
                what is the same in the end.

        Returns:
            The pairs, and counts: "pairs", "dropped_not_good_enough" (alpha), "dropped_too_close"
            (beta), "dropped_same", "dropped_over_cap".
        """
        found: list[Pair] = []
        counts: Counter[str] = Counter()
        ends = paths(tree)
        for good, bad in product(ends, ends):
            if good.score - bad.score <= NEAR:
                continue
            if not reaches(good.score, alpha):
                counts["dropped_not_good_enough"] += 1
            elif good.score - bad.score <= self.beta + NEAR:
                counts["dropped_too_close"] += 1
            else:
                found.append(Pair(good, bad))
        if same is not None:
            distinct = list({same(pair): pair for pair in reversed(found)}.values())[::-1]
            counts["dropped_same"] = len(found) - len(distinct)
            found = distinct
        if self.max_pairs is not None and len(found) > self.max_pairs:
            counts["dropped_over_cap"] = len(found) - self.max_pairs
            random.Random(seed_for(seed, "pairs", *tree.key)).shuffle(found)
            if self.over_cap == "shortest":
                found.sort(key=lambda pair: len(pair.good.nodes))  # stable: of equal ones random ones
            found = sorted(found[: self.max_pairs], key=lambda pair: (pair.good.leaf, pair.bad.leaf))
        counts["pairs"] = len(found)
        return found, counts


def reaches(score: float, alpha: float) -> bool:
    """Whether a path is good: above alpha, but a full score is enough where alpha is one."""
    return score >= 1 - NEAR if alpha >= 1 else score > alpha + NEAR


def paths(tree: Tree) -> list[Path]:
    """The tree's finished paths, in the order of their leaves.

    Nodes that the search has not gone on from have no final score, and an environment that
    failed says nothing about the actions: both are left out.
    """
    inner = {node.parent for node in tree.nodes}
    return [
        path_to(tree, node.id)
        for node in tree.nodes
        if node.terminal and node.turn and node.id not in inner and "error" not in node.turn.info
    ]


def path_to(tree: Tree, leaf: int) -> Path:
    """The path that ends in a node."""
    nodes: list[int] = []
    turns: list[Turn] = []
    at: int | None = leaf
    while at is not None:
        node = tree.nodes[at]
        if node.turn is not None:
            nodes.append(node.id)
            turns.append(node.turn)
        at = node.parent
    return Path(tuple(reversed(nodes)), tuple(reversed(turns)))

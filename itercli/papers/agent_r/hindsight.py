"""Verdicts without a model: what the search found out about the steps of a bad path.

Not in the paper, whose judge is the actor; for policies that are too small to judge.
"""

from __future__ import annotations

from typing import Any

from itercli.papers.agent_r.pairs import Pair, Path, paths, reaches
from itercli.papers.agent_r.verdicts import Word, intercepted
from itercli.records import Tree


class Hindsight:
    """Knows how far from a good end each state of a tree is.

    Args:
        alpha: What a good end scores more than, see `PairRule`.
    """

    def __init__(self, tree: Tree, alpha: float) -> None:
        self.left: dict[int, int] = {}  # node -> steps to the nearest good end below it
        for path in paths(tree):
            if reaches(path.score, alpha):
                for n, node in enumerate((0, *path.nodes)):
                    steps = len(path.nodes) - n
                    self.left[node] = min(steps, self.left.get(node, steps))

    def verdicts(self, bad: Path) -> list[tuple[int, dict[str, Any]]]:
        """Nodes of a bad path up to the first bad step, each with its verdict.

        A good step brings the nearest good end nearer. Intercepted actions do nothing, so they do no
        harm either. The tree has a good end.
        """
        found: list[tuple[int, dict[str, Any]]] = []
        before = self.left[0]
        for node, turn in zip(bad.nodes, bad.turns, strict=True):
            after = self.left.get(node, before)
            wrong = after >= before and not intercepted(turn)
            word: Word = "good" if after < before else "bad" if wrong else "uncertain"
            found.append((node, {"verdict": word, "reason": "", "bad": wrong}))
            if wrong:
                break
            before = after
        return found

    def splice(self, pair: Pair) -> tuple[int, int]:
        """What the pair will be: where the bad path goes wrong, and the end of the good one."""
        return self.verdicts(pair.bad)[-1][0], pair.good.leaf

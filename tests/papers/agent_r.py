"""Trees of the toy game for Agent-R's tests."""

from __future__ import annotations

from typing import Any

from itercli.environments.pool import Worlds
from itercli.environments.window import Window
from itercli.records import Node, Tree, Turn
from itercli.stages.acting import Scene
from tests.environments.toy import DoorsSpec, task


def scene(doors: str, **options: Any) -> Scene:
    """A task of the game, ready to be played."""
    spec = DoorsSpec(**options)
    return Scene(task(doors), spec, Worlds(spec), Window())


def tree_of(doors: str, *paths: str, judged: str = "", meta: dict[str, Any] | None = None) -> Tree:
    """A tree with these paths, each a list of actions with spaces, all played in the game.

    `wait` is intercepted.

    Args:
        judged: Prefixes of paths whose last step is bad, separated by commas.
    """
    played = scene(doors, intercept={"wait": "ok."})
    nodes = [Node(id=0, parent=None)]
    known: dict[tuple[str, ...], int] = {(): 0}
    turns: dict[tuple[str, ...], Turn] = {}
    for path in paths:
        actions = path.split()
        for n in range(1, len(actions) + 1):
            at = tuple(actions[:n])
            if at in known:
                continue
            before = [turns[at[:m]] for m in range(1, n)]
            turn = Turn(text=f"Action: {at[-1]}", **played.step(before, f"Action: {at[-1]}"))
            if " ".join(at) in judged.split(","):
                said = {"judgement": {"verdict": "bad", "reason": "so", "bad": True}}
                turn = turn.model_copy(update={"info": turn.info | said})
            turns[at], known[at] = turn, len(nodes)
            nodes.append(Node(id=known[at], parent=known[at[:-1]], turn=turn, terminal=n == len(actions)))
    return Tree(
        prompt_id=f"doors {doors}", seed=1, policy="policy@1", opening=played.opening, nodes=nodes,
        simulations=1, meta={"environment": "test.doors"} | (meta or {}),
    )  # fmt: skip

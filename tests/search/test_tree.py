"""Trees computed by hand: bounds, backing up, closing, selection."""

from __future__ import annotations

import math
import random

import pytest

from itercli.records import Turn
from itercli.search.tree import SearchTree, State

C = 0.25


def turn(score: float = 0.0) -> Turn:
    return Turn(text=f"{score}", action="a", observation="o", score=score)


@pytest.fixture
def ties() -> random.Random:
    return random.Random(0)


def numbers(tree: SearchTree) -> list[tuple[int, float]]:
    return [(state.visits, state.value) for state in tree.states]


def test_a_tree_by_hand(ties: random.Random) -> None:
    tree = SearchTree()
    root = tree.root
    a, b = (tree.expand(root, turn(), terminal=False) for _ in range(2))
    # Nothing has ended yet: no visits, and unvisited children come first.
    assert numbers(tree) == [(0, 0), (0, 0), (0, 0)]
    assert (a.uct(C), b.uct(C)) == (math.inf, math.inf)

    # Below a, an episode ends with 0.5; its score goes up to the root undiscounted.
    c = tree.expand(a, turn(0.5), terminal=True)
    d = tree.expand(a, turn(), terminal=False)
    assert numbers(tree) == [(1, 0.5), (1, 0.5), (0, 0), (1, 0.5), (0, 0)]
    assert (c.terminal, c.closed, a.closed) == (True, True, False)
    assert a.uct(C) == 0.5  # ln 1 = 0: no exploration term yet
    assert tree.select(root, C, ties) is b
    assert tree.select(a, C, ties) is d  # the terminal child is no choice

    # Below b, two end: 0 and 1.
    for score in (0.0, 1.0):
        tree.expand(b, turn(score), terminal=True)
    tree.close(b)
    assert b.closed
    assert not b.terminal
    assert not root.closed
    assert numbers(tree)[:3] == [(3, 1.5), (1, 0.5), (2, 1.0)]
    assert a.uct(C) == pytest.approx(0.5 + 0.25 * math.sqrt(math.log(3) / 1))
    assert b.uct(C) == pytest.approx(0.5 + 0.25 * math.sqrt(math.log(3) / 2))
    assert tree.select(root, C, ties) is a  # b is closed, whatever its bound

    # The last open state ends: what is above it closes, up to the root.
    e = tree.expand(d, turn(0.25), terminal=True)
    tree.close(d)
    assert [s.closed for s in (d, a, root)] == [True, True, True]
    assert [s.terminal for s in (d, a, root)] == [False, False, False]
    assert numbers(tree) == [
        (4, 1.75),
        (2, 0.75),
        (2, 1.0),
        (1, 0.5),
        (1, 0.25),
        (1, 0.0),
        (1, 1.0),
        (1, 0.25),
    ]
    assert tree.best == 1.0
    assert [t.score for t in e.turns] == [0.0, 0.0, 0.25]
    assert (e.depth, e.id) == (3, 7)


def test_the_higher_bound_is_taken_and_exploration_can_turn_it(ties: random.Random) -> None:
    tree = SearchTree()
    good, seldom = (tree.expand(tree.root, turn(), terminal=False) for _ in range(2))
    for _ in range(8):
        tree.expand(good, turn(0.6), terminal=True)
    tree.expand(seldom, turn(0.5), terminal=True)
    # 0.6 + c sqrt(ln 9 / 8) against 0.5 + c sqrt(ln 9 / 1): equal at c = 0.1043.
    assert tree.select(tree.root, 0.10, ties) is good
    assert tree.select(tree.root, 0.11, ties) is seldom


def test_ties_are_drawn_from_the_seed() -> None:
    tree = SearchTree()
    children = [tree.expand(tree.root, turn(), terminal=False) for _ in range(4)]

    def drawn(seed: int) -> list[int]:
        ties = random.Random(seed)
        return [tree.select(tree.root, C, ties).id for _ in range(40)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert set(drawn(1)) == {child.id for child in children}


def test_a_state_without_children_does_not_close() -> None:
    tree = SearchTree()
    tree.close(tree.root)
    assert not tree.root.closed
    only = tree.expand(tree.root, turn(), terminal=False)
    tree.close(tree.root)
    assert not tree.root.closed
    tree.end(only)
    tree.close(tree.root)
    assert tree.root.closed


def test_records_say_who_is_whose_child() -> None:
    tree = SearchTree()
    a = tree.expand(tree.root, turn(), terminal=False)
    tree.expand(a, turn(1.0), terminal=True)
    nodes = tree.nodes()
    assert [n.id for n in nodes] == [0, 1, 2]
    assert [n.parent for n in nodes] == [None, 0, 1]
    assert nodes[0].turn is None
    assert nodes[2].model_dump() == {
        "id": 2, "parent": 1, "turn": turn(1.0).model_dump(), "visits": 1, "value": 1.0,
        "closed": True, "terminal": True,
    }  # fmt: skip
    assert State().score == 0.0

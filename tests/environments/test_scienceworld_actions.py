"""Snapping proposed actions to sensible valid ones."""

from __future__ import annotations

import pytest

from itercli.environments.scienceworld_actions import snap

VALID = [
    "open cupboard", "open fridge", "close door to kitchen", "close cupboard", "look around",
    "focus on agent", "focus on kitchen", "focus on thermometer", "focus on orange",
    "pick up orange", "pick up metal pot", "wait", "wait1",
]  # fmt: skip
SEEN = "In it, you see: a thermometer, a cupboard. In your inventory, you see: a metal pot"


@pytest.mark.parametrize(
    ("proposed", "recent", "done"),
    [
        ("open cupboard", [], "open cupboard"),
        ("open the cupboard now", [], "open cupboard"),
        ("Pick Up the Metal pot please", [], "pick up metal pot"),
        ("pick up", [], "pick up orange"),  # the shorter of two that share two words
        ("wait", [], "wait"),
        ("focus on thermometer", [], "focus on thermometer"),
        ("focus on orange", [], "focus on thermometer"),  # the orange is not in sight
        ("focus on agent", [], "focus on thermometer"),
        ("close door to kitchen", [], "close cupboard"),
        ("open fridge", ["open fridge"], "open cupboard"),
        ("open fridge", ["open fridge", "a", "b", "c"], "open fridge"),  # only the last three count
        ("dance", [], "dance"),
        ("", [], ""),
    ],
)
def test_snap(proposed: str, recent: list[str], done: str) -> None:
    assert snap(proposed, VALID, recent, SEEN) == done
    assert snap(proposed, VALID[::-1], recent, SEEN) == done


def test_what_is_inside_counts_by_its_words() -> None:
    action = "focus on seed in flower pot"
    assert snap(action, [action], [], "a flower pot (containing a seed)") == action
    assert snap(action, [action, "focus on soil"], [], "a flower pot (containing soil)") == "focus on soil"


def test_nothing_allowed_leaves_the_proposal() -> None:
    assert snap("wait", ["wait"], ["wait"], "") == "wait"

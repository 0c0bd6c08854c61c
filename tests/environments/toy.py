"""A game whose optimum is known: a row of rooms, in each of which one door is right.

The score is the share of rooms that were left through the right door; each has three, and any
number stands for one. Whatever is no number leaves one in the room, but "trap" (a negative score),
"die" and "hang" do just that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from itercli.data.base import Source
from itercli.environments.base import Conversation, Environment, EnvironmentDied, EnvironmentSpec, Step, Task
from itercli.records import Prompt
from itercli.registry import register


class Doors(Environment):
    """A task is the right doors, {"doors": "201"}; {"doors": ""} can't be begun."""

    def __init__(self) -> None:
        self.doors, self.room, self.right, self.closed = "", 0, 0, threading.Event()

    def reset(self, task: Task) -> str:
        if not task["doors"]:
            raise EnvironmentDied("no rooms")
        self.doors, self.room, self.right = task["doors"], 0, 0
        return f"room 1 of {len(self.doors)}"

    def step(self, action: str) -> Step:
        if action == "hang":
            self.closed.wait(30)
        if action == "die":
            raise EnvironmentDied("gone")
        if action == "trap":
            return Step("It snaps.", reward=-1, score=-1)
        before = self.right / len(self.doors)
        number = action.partition(" ")[0]
        if not number.isdigit():
            return Step("There is no such door.", score=before)
        self.right += str(int(number) % 3) == self.doors[self.room]
        self.room += 1
        score, done = self.right / len(self.doors), self.room == len(self.doors)
        return Step("the end" if done else f"room {self.room + 1}", score - before, score, done)

    def snapshot(self) -> Any:
        return (self.doors, self.room, self.right)

    def restore(self, state: Any) -> None:
        self.doors, self.room, self.right = state

    def close(self) -> None:
        self.closed.set()


@register("environment", "test.doors")
class DoorsSpec(EnvironmentSpec):
    conversation: Conversation = Conversation(instruction="Find the way out.\n{task}")

    def build(self) -> Environment:
        return Doors()


@register("environment", "test.more_doors")
class MoreDoorsSpec(DoorsSpec):
    """The same under another name."""


@register("source", "test.doors")
class DoorsSource(Source):
    """Tasks of the game, as a source for recipes."""

    doors: tuple[str, ...]

    def prompts(self) -> Iterator[Prompt]:
        return (task(doors, rooms=len(doors)) for doors in self.doors)

    def fingerprint(self) -> dict[str, str]:
        return {}


def task(doors: str, name: str = "test.doors", id: str | None = None, **meta: Any) -> Prompt:
    """A task of the game."""
    meta = {"environment": name, "task": {"doors": doors}} | meta
    return Prompt(id=id or f"doors {doors}", messages=[], meta=meta)

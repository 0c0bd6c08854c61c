"""The pool of live environments: states are found, restored or replayed; failures end episodes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import PrivateAttr

from itercli.environments.base import Environment, EnvironmentDied, EnvironmentSpec, Step, Task
from itercli.environments.pool import Worlds


class Adder(Environment):
    """Actions are numbers; the score is their sum in tenths; 'die' and 'hang' do just that."""

    def __init__(self, snapshots: bool) -> None:
        self.total, self.snapshots, self.hanging = 0, snapshots, threading.Event()

    def reset(self, task: Task) -> str:
        self.total = task.get("start", 0)
        return f"at {self.total}"

    def step(self, action: str) -> Step:
        if action == "die":
            raise EnvironmentDied("gone")
        if action == "hang":
            self.hanging.wait(30)
        self.total += int(action)
        return Step(f"at {self.total}", score=self.total / 10, done=self.total >= 10)

    def valid_actions(self) -> list[str]:
        return [str(n) for n in range(1, 11 - self.total)]

    def snapshot(self) -> Any:
        return self.total if self.snapshots else None

    def restore(self, state: Any) -> None:
        self.total = state

    def close(self) -> None:
        self.hanging.set()


class AdderSpec(EnvironmentSpec):
    with_snapshots: bool = False
    _built: list[Adder] = PrivateAttr(default_factory=list)

    def build(self) -> Environment:
        self._built.append(Adder(self.with_snapshots))
        return self._built[-1]


TASK: Task = {"start": 0}


def test_going_on_replays_nothing() -> None:
    worlds = Worlds(AdderSpec(instances=2))
    assert worlds.open("a", TASK) == "at 0"
    for n in range(1, 6):
        assert worlds.play("a", TASK, ["1"] * n).observation == f"at {n}"
    assert (worlds.counts["resets"], worlds.counts["steps"], worlds.counts["replayed"]) == (1, 5, 0)


def test_branching_off_replays_the_prefix() -> None:
    worlds = Worlds(AdderSpec(instances=1))
    worlds.play("a", TASK, ["1", "2", "3"])
    assert worlds.play("a", TASK, ["1", "2", "4"]) == Step("at 7", score=0.7)
    assert worlds.counts["replayed"] == 4  # two on the way to the first, two to the second


def test_snapshots_replace_replaying() -> None:
    worlds = Worlds(AdderSpec(instances=1, with_snapshots=True))
    worlds.play("a", TASK, ["1", "2", "3"])
    before = worlds.counts["steps"]
    assert worlds.play("a", TASK, ["1", "2", "4"]).observation == "at 7"
    assert (worlds.counts["steps"] - before, worlds.counts["restores"], worlds.counts["resets"]) == (1, 1, 1)


def test_tasks_do_not_mix() -> None:
    worlds = Worlds(AdderSpec(instances=1))
    for n in range(1, 4):
        assert worlds.play("a", {"start": 0}, ["1"] * n).observation == f"at {n}"
        assert worlds.play("b", {"start": 5}, ["1"] * n).observation == f"at {5 + n}"


def test_instances_are_bounded() -> None:
    spec = AdderSpec(instances=3)
    worlds = Worlds(spec)
    for n in range(10):
        worlds.play(f"t{n}", TASK, ["1"])
    assert len(spec._built) == 3


def test_intercepted_actions_do_not_reach_the_environment() -> None:
    worlds = Worlds(AdderSpec(intercept={"wait": "ok."}))
    assert worlds.play("a", TASK, ["4", "wait"]) == Step("ok.", score=0.4, info={"intercepted": True})
    assert worlds.play("a", TASK, ["4", "Wait."]).observation == "ok."
    assert worlds.play("a", TASK, ["4", "wait", "1"]).observation == "at 5"
    assert worlds.valid_actions("a", TASK, ["wait", "8"]) == ["1", "2"]


def test_one_that_hangs_ends_its_episode_only() -> None:
    worlds = Worlds(AdderSpec(instances=1, step_seconds=0.2))
    ended = worlds.play("a", TASK, ["1", "hang"])
    assert ended.done
    assert "0.2 s" in ended.info["error"]
    assert worlds.counts["timeouts"] == 1
    assert worlds.play("a", TASK, ["1", "2"]).observation == "at 3"


def test_one_that_dies_is_replaced_and_a_deadly_action_ends_the_episode() -> None:
    spec = AdderSpec(instances=1)
    worlds = Worlds(spec)
    worlds.play("a", TASK, ["1"])
    ended = worlds.play("a", TASK, ["1", "die"])
    assert ended.done
    assert ended.info == {"error": "gone"}
    assert worlds.counts["deaths"] == 3
    assert worlds.play("a", TASK, ["1", "2"]).observation == "at 3"


@pytest.mark.parametrize("snapshots", [False, True])
def test_after_done_nothing_follows(snapshots: bool) -> None:
    worlds = Worlds(AdderSpec(instances=1, with_snapshots=snapshots))
    assert worlds.play("a", TASK, ["10"]).done
    assert "was over" in worlds.play("a", TASK, ["10", "1"]).info["error"]

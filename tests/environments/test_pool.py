"""The pool of live environments: states are found, restored or replayed; failures end episodes."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest
from pydantic import PrivateAttr

from itercli.environments.base import (
    Environment,
    EnvironmentDied,
    EnvironmentFailed,
    EnvironmentSpec,
    Step,
    Task,
)
from itercli.environments.pool import Worlds
from itercli.registry import register


class Adder(Environment):
    """Actions are numbers; the score is their sum in tenths; 'die' and 'hang' do just that, others fail."""

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


@register("environment", "test.adder")
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


class Machine:
    """What several environments need."""

    runs = True


class Tenant(Adder):
    """Lives on a machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(snapshots=False)
        self.machine = machine

    def reset(self, task: Task) -> str:
        self.check()
        return super().reset(task)

    def step(self, action: str) -> Step:
        self.check()
        return super().step(action)

    def check(self) -> None:
        if not self.machine.runs:
            raise EnvironmentDied("the machine is gone")

    def alive(self) -> bool:
        return self.machine.runs


class TenantSpec(EnvironmentSpec):
    _machine: Machine = PrivateAttr(default_factory=Machine)

    def build(self) -> Environment:
        if not self._machine.runs:
            self._machine = Machine()
        return Tenant(self._machine)


@pytest.mark.parametrize("free", range(6))
def test_one_death_takes_all_that_share_it_along(free: int) -> None:
    spec = TenantSpec()
    worlds = Worlds(spec)
    names = [f"t{n}" for n in range(free)]
    for name in ["a", "b", *names]:
        worlds.play(name, TASK, ["1"])
    for name in names:
        worlds.play(name, TASK, ["1", "9"])  # over
    spec._machine.runs = False
    assert worlds.play("a", TASK, ["1", "2"]) == Step("at 3", score=0.3)
    assert worlds.play("b", TASK, ["1", "2"]) == Step("at 3", score=0.3)
    assert worlds.counts["deaths"] == 2 + free


@pytest.mark.parametrize("seconds", [None, 5.0])
def test_whatever_a_plug_in_raises_ends_the_episode_alone(seconds: float | None) -> None:
    worlds = Worlds(AdderSpec(instances=1, step_seconds=seconds))
    ended = worlds.play("a", TASK, ["1", "x"])
    assert ended.done
    assert ended.info["error"].startswith("environment test.adder: ValueError: invalid literal")
    with pytest.raises(EnvironmentFailed, match=r"test\.adder: AttributeError: 'str'"):
        worlds.open("b", "no task")  # type: ignore[arg-type]
    assert worlds.play("a", TASK, ["1", "2"]).observation == "at 3"


@pytest.mark.parametrize("score", [100.0, 1.01, math.nan, math.inf, "1"])
def test_a_score_that_is_none_ends_the_episode(score: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adder, "step", lambda self, action: Step("ok", score=score))
    ended = Worlds(AdderSpec()).play("a", TASK, ["1"])
    assert (ended.done, ended.score) == (True, 0.0)
    wanted = "must be real number" if score == "1" else f"score {score} after '1'; scores are in [0, 1]"
    assert "test.adder" in ended.info["error"]
    assert wanted in ended.info["error"]


@pytest.mark.parametrize("score", [1 + 1e-12, -1.0])
def test_rounded_and_negative_scores_pass(score: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Adder, "step", lambda self, action: Step("ok", score=score))
    assert Worlds(AdderSpec()).play("a", TASK, ["1"]) == Step("ok", score=score)


def test_step_seconds_are_for_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(answer: Any) -> Any:
        time.sleep(0.7)
        return answer

    monkeypatch.setattr(Adder, "reset", lambda self, task: late("ready"))
    monkeypatch.setattr(Adder, "valid_actions", lambda self: late(["1"]))
    monkeypatch.setattr(Adder, "step", lambda self, action: Step("ok"))
    worlds = Worlds(AdderSpec(step_seconds=0.5))
    assert worlds.open("a", TASK) == "ready"
    assert worlds.valid_actions("a", TASK, ["1"]) == ["1"]
    monkeypatch.setattr("itercli.environments.live.OTHER_SECONDS", 0.6)
    with pytest.raises(EnvironmentFailed, match=r"no answer within 0\.6 s"):
        worlds.open("a", TASK)
    assert worlds.counts["timeouts"] == 1


@pytest.mark.parametrize("snapshots", [False, True])
def test_after_done_nothing_follows(snapshots: bool) -> None:
    worlds = Worlds(AdderSpec(instances=1, with_snapshots=snapshots))
    assert worlds.play("a", TASK, ["10"]).done
    assert "was over" in worlds.play("a", TASK, ["10", "1"]).info["error"]

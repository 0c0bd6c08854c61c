"""ScienceWorld's simulators in one JVM: solutions, determinism, independence, and a JVM's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from pydantic import ValidationError

from itercli.environments import scienceworld_jvm
from itercli.environments.base import EnvironmentDied, EnvironmentFailed, Step, Task
from itercli.environments.pool import Worlds
from itercli.environments.scienceworld import ScienceWorld, ScienceWorldSpec
from itercli.environments.scienceworld_jvm import Jvm, Simulator

GOLD = (
    "find-plant", "find-animal", "find-living-thing", "lifespan-longest-lived", "lifespan-shortest-lived",
    "chemistry-mix", "identify-life-stages-1", "power-component", "use-thermometer", "freeze",
)  # fmt: skip
WALK = (
    "look around", "teleport to kitchen", "look around", "open cupboard", "pick up thermometer", "inventory",
    "teleport to outside", "look around", "wait1", "teleport to greenhouse", "look around",
)  # fmt: skip
FREEZE: Task = {"task": "freeze", "variation": 1}
PLANT: Task = {"task": "find-plant", "variation": 3}

try:
    scienceworld_jvm.require()
    MISSING = ""
except EnvironmentFailed as error:
    MISSING = str(error)
needs_java = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def spec() -> Iterator[ScienceWorldSpec]:
    """One JVM for all tests that do not kill it."""
    made = ScienceWorldSpec(heap_mb=512)
    yield made
    made.shut_down()


def walk(world: ScienceWorld, task: Task, actions: tuple[str, ...] = WALK) -> list[str | Step]:
    return [world.reset(task), *(world.step(action) for action in actions)]


def built(spec: ScienceWorldSpec) -> ScienceWorld:
    world = spec.build()
    assert isinstance(world, ScienceWorld)
    return world


@needs_java
@pytest.mark.slow
def test_gold_paths_score_one(spec: ScienceWorldSpec) -> None:
    world = built(spec)
    for name in GOLD:
        task: Task = {"task": name, "variation": 2}
        path = world.gold_path(task)
        assert world.reset(task).startswith("Your task is to ")
        total = 0.0
        for action in path:
            step = world.step(action)
            total += step.reward
            if step.done:
                break
        assert (name, step.score, step.done) == (name, 1.0, True)
        assert total == pytest.approx(1.0)


@needs_java
@pytest.mark.slow
def test_replays_are_the_same_whatever_was_before(spec: ScienceWorldSpec) -> None:
    world = built(spec)
    first, valid = walk(world, FREEZE), world.valid_actions()
    assert isinstance(first[-1], Step)
    assert first[-1].score > 0
    walk(world, PLANT)
    assert walk(world, FREEZE) == first
    assert world.valid_actions() == valid
    other = ScienceWorldSpec(heap_mb=256)
    try:
        assert walk(built(other), FREEZE) == first
    finally:
        other.shut_down()


@needs_java
@pytest.mark.slow
def test_simulators_of_one_jvm_are_independent(spec: ScienceWorldSpec) -> None:
    one, two = built(spec), built(spec)
    alone = walk(one, FREEZE), walk(two, PLANT)
    first: list[str | Step] = [one.reset(FREEZE)]
    second: list[str | Step] = [two.reset(PLANT)]
    for action in WALK:
        one.valid_actions()  # asking changes nothing either
        first.append(one.step(action))
        second.append(two.step(action))
    assert (first, second) == alone


@needs_java
@pytest.mark.slow
def test_a_killed_jvm_loses_nothing() -> None:
    spec = ScienceWorldSpec(heap_mb=256, instances=4)
    worlds = Worlds(spec)
    tasks = {"a": FREEZE, "b": PLANT}
    try:
        undisturbed = {(i, n): worlds.play(i, tasks[i], WALK[:n]) for n in range(1, 12) for i in tasks}
        pid = spec.jvm().pid
        again = {}
        for n in range(1, 12):
            for i in tasks:
                if (i, n) == ("b", 6):
                    for over in ("c", "d"):  # the other two, free when the JVM ends
                        worlds.open(over, FREEZE)
                    for over in ("c", "d"):
                        assert worlds.play(over, FREEZE, ["focus on agent"]).done
                    os.kill(spec.jvm().pid, signal.SIGKILL)
                again[i, n] = worlds.play(i, tasks[i], WALK[:n])
        assert spec.jvm().pid != pid
        assert worlds.counts["deaths"] == 4  # all of its simulators
        assert again == undisturbed
    finally:
        worlds.close()


@needs_java
@pytest.mark.slow
def test_the_jvm_ends_with_a_killed_process() -> None:
    code = (
        "import time; from itercli.environments.scienceworld_jvm import Jvm\n"
        "print(Jvm(128).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        jvm = psutil.Process(int(owner.stdout.readline()))
        assert {"-Xmx128m", "-XX:hashCode=2"} <= set(jvm.cmdline())
        owner.kill()
        jvm.wait(timeout=10)


@needs_java
@pytest.mark.slow
def test_one_that_is_closed_while_it_hangs_takes_the_jvm_along() -> None:
    jvm = Jvm(heap_mb=128)
    simulator = Simulator(jvm)
    simulator._java = jvm.ask(simulator, lambda names: names.java.lang.Thread)
    ended: list[Exception] = []

    def hang() -> None:
        try:
            simulator.call("sleep", 60_000)
        except EnvironmentDied as error:
            ended.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    while not simulator._busy:
        time.sleep(0.01)
    simulator.close()
    thread.join(10)
    assert "heap_mb=128" in str(ended[0])
    assert not jvm.alive


@needs_java
@pytest.mark.slow
def test_failing_a_task_ends_it_with_zero(spec: ScienceWorldSpec) -> None:
    world = built(spec)
    world.reset(FREEZE)
    step = world.step("focus on agent")
    assert (step.score, step.reward, step.done, step.info) == (0.0, 0.0, True, {"disaster": True})


@needs_java
@pytest.mark.slow
def test_options(spec: ScienceWorldSpec) -> None:
    limited = spec.model_copy(update={"step_limit": 2, "snap": True})
    world = built(limited)
    world.reset(PLANT)
    step = world.step("please teleport to the kitchen")
    assert step.info == {"executed": "teleport to kitchen"}
    assert not step.done
    assert world.step("inventory").done
    for task in ({"task": "boil", "variation": 30}, {"task": "nope", "variation": 0}, {"task": "boil"}):
        with pytest.raises(EnvironmentFailed, match=r"exceeds|Unknown task|variation"):
            world.reset(task)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scienceworld_jvm, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFailed, match=r"itercli\[scienceworld\]"):
        ScienceWorldSpec().build()
    monkeypatch.setattr(scienceworld_jvm, "find_spec", lambda name: object())
    monkeypatch.setattr(scienceworld_jvm, "find_java", lambda: None)
    with pytest.raises(EnvironmentFailed, match="default-jre-headless"):
        ScienceWorldSpec().fingerprint()


def test_an_unknown_simplification_is_refused() -> None:
    with pytest.raises(ValidationError, match="'openDoor' is none of easy, teleportAction"):
        ScienceWorldSpec(simplification="openDoors,openDoor")

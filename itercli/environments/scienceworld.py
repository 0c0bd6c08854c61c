"""Environment `scienceworld`: ScienceWorld's simulator, called directly.

The package's `step` also computes look, inventory and all valid actions each time, which is six
to twenty times slower; here they are computed when asked for. A task is
``{"task": "boil", "variation": 3}``.
"""

from __future__ import annotations

import json
import threading
from importlib.metadata import version
from typing import Any

from pydantic import Field, PrivateAttr, field_validator

from itercli.environments.base import (
    Conversation,
    Environment,
    EnvironmentFailed,
    EnvironmentSpec,
    Step,
    Task,
)
from itercli.environments.scienceworld_actions import snap
from itercli.environments.scienceworld_jvm import Jvm, Simulator, require
from itercli.registry import how, register

SIMPLIFICATIONS = (
    "easy", "teleportAction", "openDoors", "openContainers", "selfWateringFlowerPots", "noElectricalAction",
)  # fmt: skip
INSTRUCTION = """\
You act in a house with a kitchen, workshop, greenhouse and other rooms, to do a science task.
Each turn, write what you think and then one action:

Thought: why this is the next step
Action: the action

Actions, OBJ being something you see or carry: look around, look at OBJ, look in OBJ, read OBJ, inventory, \
task, open OBJ, close OBJ, go LOCATION, teleport to LOCATION, pick up OBJ, put down OBJ, move OBJ to OBJ, \
pour OBJ in OBJ, dunk OBJ in OBJ, mix OBJ, activate OBJ, deactivate OBJ, use OBJ on OBJ, connect OBJ to OBJ, \
disconnect OBJ, eat OBJ, flush OBJ, focus on OBJ, wait (10 steps), wait1 (1 step).
Focus only on what the task names: focusing on anything else fails it. If the reply is a numbered list of \
choices, the next action is the number."""


@register("environment", "scienceworld")
class ScienceWorldSpec(EnvironmentSpec):
    """ScienceWorld (Wang et al. 2022): 30 science tasks in a simulated house; needs Java."""

    conversation: Conversation = Conversation(
        instruction=INSTRUCTION, acknowledge="Ok.", action="react", one_line=True
    )
    simplification: str = Field(
        "easy",
        description="The package's simplifications, separated by commas; easy: all that the task allows.",
    )
    step_limit: int | None = Field(100, ge=1, description="Actions after which the episode is done.")
    snap: bool = Field(False, description="Do the nearest sensible valid action instead of what is proposed.")
    heap_mb: int = how(default=512, ge=128, description="Heap of the JVM that all instances share, in MiB.")

    _jvm: Jvm | None = PrivateAttr(None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @field_validator("simplification")
    @classmethod
    def _known(cls, value: str) -> str:
        # The simulator takes any word and ignores what it does not know.
        for word in filter(None, value.split(",")):
            if word not in SIMPLIFICATIONS:
                raise ValueError(f"{word!r} is none of {', '.join(SIMPLIFICATIONS)}")
        return value

    def fingerprint(self) -> dict[str, Any]:
        require()
        return {"scienceworld": version("scienceworld")}

    def build(self) -> Environment:
        return ScienceWorld(self, Simulator(self.jvm()))

    def jvm(self) -> Jvm:
        """The JVM of all live environments; a new one if there is none or it ended."""
        with self._lock:
            if self._jvm is None or not self._jvm.alive:
                self._jvm = Jvm(self.heap_mb)
            return self._jvm

    def shut_down(self) -> None:
        with self._lock:
            if self._jvm is not None:
                self._jvm.stop()
            self._jvm = None


class ScienceWorld(Environment):
    """A simulator in a JVM."""

    def __init__(self, spec: ScienceWorldSpec, simulator: Simulator) -> None:
        self._spec, self._simulator, self._call = spec, simulator, simulator.call
        self._score = 0.0
        self._done: list[str] = []

    def reset(self, task: Task) -> str:
        self._score, self._done = 0.0, []
        self._load(task)
        # As the package's reset does, which makes it the episode's first move.
        seen = self._call("step", "look around")
        return f"{self._call('getTaskDescription')}\n{seen}"

    def step(self, action: str) -> Step:
        executed = self._snapped(action) if self._spec.snap else action
        observation = self._call("step", executed)
        # The package counts in points of 100; the simulator's own numbers are unrounded.
        points = round(100 * self._call("getScore"))
        self._done.append(executed)
        score, before = max(points, 0) / 100, self._score
        self._score = score
        info: dict[str, Any] = {"executed": executed} if executed != action else {}
        if points < 0:
            info["disaster"] = True
        late = self._spec.step_limit is not None and len(self._done) >= self._spec.step_limit
        done = points < 0 or late or bool(self._call("getCompleted"))
        return Step(observation, reward=score - before, score=score, done=done, info=info)

    def valid_actions(self) -> list[str]:
        # As JSON: a Java list would be fetched item by item. Its order is that of a hash map.
        found = json.loads(self._call("getValidActionObjectCombinationsJSON"))
        return sorted({choice["action"] for choice in found["validActions"]})

    def gold_path(self, task: Task) -> list[str]:
        """The package's own solution of a task; the environment has to be reset afterwards.

        Its first action is for the state after `reset`.
        """
        self._load(task, gold=True)
        return list(self._call("getGoldActionSequence"))

    def alive(self) -> bool:
        return self._simulator.alive

    def close(self) -> None:
        self._simulator.close()

    def _load(self, task: Task, gold: bool = False) -> None:
        name, variation = task.get("task"), task.get("variation")
        if not isinstance(name, str) or not isinstance(variation, int):
            raise EnvironmentFailed(f"a ScienceWorld task is {{'task': name, 'variation': int}}, not {task}")
        said = self._call("load", name, variation, self._spec.simplification, gold)
        if said:
            raise EnvironmentFailed(f"ScienceWorld: {said}")

    def _snapped(self, action: str) -> str:
        visible = f"{self._call('freeActionLook')} {self._call('freeActionInventory')}"
        return snap(action, self.valid_actions(), self._done, visible)

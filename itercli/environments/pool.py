"""Live environments behind a pure function: (task, actions) -> what the last action did.

Environments are deterministic, so a state is the list of actions that leads there, and a live
environment is a cache of one state. `Worlds.play` takes the one that stands just before the
last action; else it restores a snapshot, or resets one and replays. Rollouts hit the first case
all the time, tree searches whenever they go on where they were; neither has to hold an
environment, and a killed run needs none to know what was already seen (`Ask.then`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from itercli.environments.base import EnvironmentDied, EnvironmentFailed, EnvironmentSpec, Step, Task
from itercli.environments.live import Live, TooLate

T = TypeVar("T")
REVIVALS = 2  # a state that kills the environment each time is the task's fault


@dataclass
class Worlds:
    """The live environments of one spec.

    Attributes:
        counts: "steps", "replayed" (steps done again to get somewhere), "resets", "restores",
            "deaths", "timeouts".
    """

    spec: EnvironmentSpec
    counts: Counter[str] = field(default_factory=Counter)
    _live: list[Live] = field(default_factory=list)  # least recently used first
    _snapshots: OrderedDict[tuple[str, tuple[str, ...]], tuple[Any, float]] = field(
        default_factory=OrderedDict
    )
    snapshots: int = 4096

    def prepare(self) -> None:
        """See to it that there is a live environment, so that what is missing is said before all else.

        Raises:
            EnvironmentFailed: None can be built here.
        """
        if not self._live:
            self._live.append(Live(self.spec))

    def open(self, task_id: str, task: Task) -> str:
        """The task's first observation."""
        return self._surviving(lambda: self._reset(self._take(task_id, ()), task_id, task))

    def play(self, task_id: str, task: Task, actions: Sequence[str]) -> Step:
        """Do the last of `actions` in the state that the others lead to.

        Never raises for what an environment does: one that hangs or dies again and again ends
        the episode with ``info["error"]``. Intercepted actions get their reply and are not done;
        their steps have ``info["intercepted"]``.

        Args:
            task_id: Identifies the task among all.
        """
        before, action = tuple(actions[:-1]), actions[-1]
        reply = self._reply(action)
        path = tuple(a for a in before if self._reply(a) is None)
        try:
            if reply is not None:
                live = self._surviving(lambda: self._at(task_id, task, path))
                return Step(reply, score=live.score, info={"intercepted": True})
            return self._surviving(lambda: self._step(self._at(task_id, task, path), action))
        except EnvironmentFailed as error:
            return Step(f"Error: {error}", done=True, info={"error": str(error)})

    def valid_actions(self, task_id: str, task: Task, actions: Sequence[str]) -> list[str] | None:
        """What is possible after these actions."""
        path = tuple(a for a in actions if self._reply(a) is None)

        def ask() -> list[str] | None:
            live = self._at(task_id, task, path)
            return self._call(live, live.world.valid_actions)

        return self._surviving(ask)

    def close(self) -> None:
        """Close all live environments."""
        for live in self._live:
            self._end(live)
        self._live.clear()
        self.spec.shut_down()

    @cached_property
    def _replies(self) -> dict[str, str]:
        return {_plain(action): reply for action, reply in self.spec.intercept.items()}

    def _reply(self, action: str) -> str | None:
        """That of an intercepted action, None for others."""
        return self._replies.get(_plain(action)) if self._replies else None

    def _at(self, task_id: str, task: Task, path: tuple[str, ...]) -> Live:
        """A live environment in the state that `path` leads to."""
        live = self._take(task_id, path)
        if (live.task, live.actions) == (task_id, path):
            return live
        known = self._snapshots.get((task_id, path))
        if known is not None:
            if live.task != task_id:  # another task, or one that is over
                self._reset(live, task_id, task)
            self._call(live, lambda: live.world.restore(known[0]))
            live.actions, live.score = path, known[1]
            self.counts["restores"] += 1
            return live
        self._reset(live, task_id, task)
        for action in path:
            if self._step(live, action).done:
                raise EnvironmentFailed(f"{task_id}: the episode was over before {path[-1]!r}")
            self.counts["replayed"] += 1
        return live

    def _take(self, task_id: str, path: tuple[str, ...]) -> Live:
        """The environment in that state, else one with its task, a free one, a new one, the oldest."""
        for dead in [x for x in self._live if not x.world.alive()]:  # one death may be that of several
            self._die(dead)
        exact = (n for n, x in enumerate(self._live) if (x.task, x.actions) == (task_id, path))
        same = (n for n, x in enumerate(self._live) if x.task == task_id)
        found = next(exact, None)
        if found is None and (task_id, path) in self._snapshots:
            found = next(same, None)
        if found is None:
            found = next((n for n, x in enumerate(self._live) if not x.task), None)
        if found is None and len(self._live) < self.spec.instances:
            live = Live(self.spec)
        else:
            live = self._live.pop(0 if found is None else found)
        self._live.append(live)
        return live

    def _reset(self, live: Live, task_id: str, task: Task) -> str:
        live.task, live.actions, live.score = "", (), 0.0  # not in a known state while it resets
        self.counts["resets"] += 1
        observation = self._call(live, lambda: live.world.reset(task))
        live.task = task_id
        self._remember(live)
        return observation

    def _step(self, live: Live, action: str) -> Step:
        task_id, path = live.task, live.actions
        live.task = ""
        self.counts["steps"] += 1
        step = self._guard(live, lambda: live.step(action))
        live.score = step.score
        if not step.done:  # else the state is of no use to anyone
            live.task, live.actions = task_id, (*path, action)
            self._remember(live)
        return step

    def _remember(self, live: Live) -> None:
        state = self._call(live, live.world.snapshot)
        if state is not None:
            self._snapshots[live.task, live.actions] = (state, live.score)
            while len(self._snapshots) > self.snapshots:
                self._snapshots.popitem(last=False)

    def _call(self, live: Live, act: Callable[[], T]) -> T:
        return self._guard(live, lambda: live.call(act))

    def _guard(self, live: Live, act: Callable[[], T]) -> T:
        """Do something with an environment; one that is late or dies is given up."""
        try:
            return act()
        except TooLate:
            self.counts["timeouts"] += 1
            self._drop(live)
            raise
        except EnvironmentDied:
            self._die(live)
            raise

    def _surviving(self, act: Callable[[], T]) -> T:
        """Do it again with another environment if one dies."""
        for left in range(REVIVALS, -1, -1):
            try:
                return act()
            except EnvironmentDied:
                if not left:
                    raise
        raise AssertionError

    def _die(self, live: Live) -> None:
        self.counts["deaths"] += 1
        self._drop(live)

    def _drop(self, live: Live) -> None:
        if live in self._live:
            self._live.remove(live)
        self._end(live)

    def _end(self, live: Live) -> None:
        try:
            live.end()
        except Exception:  # it is on its way out: whatever it says changes nothing
            self.counts["unclean"] += 1


def _plain(action: str) -> str:
    return action.strip(" .!`'\"*").casefold()

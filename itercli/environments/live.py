"""A live environment with the state that it is in, and calls to it that fail in one way only."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from itercli.environments.base import Environment, EnvironmentFailed, EnvironmentSpec, Step
from itercli.errors import IterError

T = TypeVar("T")
OTHER_SECONDS = 60.0  # least limit of what is no step: resets load and compile, which is no action's fault
ROUNDING = 1e-6  # sums of shares may end a little above 1


class TooLate(EnvironmentFailed):
    """The environment gave no answer within its time."""


class Live:
    """An environment with the state that it is in.

    Attributes:
        task: The task that it is in; empty if it is free, or in a state that nobody knows.
        actions: What was done since the task's reset.
        score: What that has reached.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        self.world: Environment = spec.build()
        self.task = ""
        self.actions: tuple[str, ...] = ()
        self.score = 0.0
        self._name, self._limit = spec.known_as, spec.step_seconds
        self._thread = ThreadPoolExecutor(1) if self._limit is not None else None

    def step(self, action: str) -> Step:
        """Do one action; raises what `call` does, also for a score that is none."""

        def act() -> Step:
            step = self.world.step(action)
            if math.isnan(step.score) or step.score > 1 + ROUNDING:
                raise EnvironmentFailed(
                    f"environment {self._name}: score {step.score} after {action!r}; scores are in [0, 1]"
                )
            return step

        return self.call(act, self._limit)

    def call(self, act: Callable[[], T], seconds: float | None = None) -> T:
        """Do something with the environment.

        Args:
            seconds: Its limit; that of all but steps if unset. There is none without `step_seconds`.

        Raises:
            TooLate: It is not done by then; the environment is still at it.
            EnvironmentFailed: It raised an exception of any kind.
            IterError: Those that are no environment's fault pass.
        """
        try:
            if self._thread is None or self._limit is None:
                return act()
            seconds = seconds or max(OTHER_SECONDS, self._limit)
            answer = self._thread.submit(act)
            if wait([answer], seconds).not_done:
                raise TooLate(f"no answer within {seconds:g} s")
            return answer.result()
        except IterError:
            raise
        except Exception as error:
            self.task = ""  # nobody knows how far it came
            raise EnvironmentFailed(f"environment {self._name}: {type(error).__name__}: {error}") from error

    def end(self) -> None:
        """Close it; whatever it raises then."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
        self.world.close()

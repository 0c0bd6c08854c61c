"""The environment protocol: a task in, observations out, deterministic per task and seed.

Like Gymnasium's, with text for both sides and one addition: `score` is what has been reached so
far, in [0, 1], so that an episode cut off in the middle still has one. An `EnvironmentSpec` holds
the options and makes live environments; it is light, they may be heavy (a JVM, a server).

A task comes as a `Prompt`: its `meta["environment"]` names the environment, `meta["task"]` is
what `reset` gets. The prompt's messages say in words what the task is; what a policy sees is made
by `Conversation` from the first observation.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from itercli.errors import IterError
from itercli.records import Message
from itercli.registry import Component, how

Task = dict[str, Any]

# What Markdown puts around an action: emphasis and code, and a list's "1. ". Not "3 oak planks".
MARKS = " \t*`"
NUMBERING = re.compile(r"^[0-9]+\.\s+")


class EnvironmentFailed(IterError):
    """The environment can't go on with this task; the episode ends, the run goes on."""


class EnvironmentDied(EnvironmentFailed):
    """The live environment is gone (its process, its server); another one can take over."""


@dataclass(frozen=True, slots=True)
class Step:
    """What came of an action.

    Attributes:
        reward: Change of the score by it.
        score: The environment's score so far, in [0, 1].
        done: No action follows.
        info: Whatever else it says: "disaster" (a negative score ended the episode) ...
    """

    observation: str
    reward: float = 0.0
    score: float = 0.0
    done: bool = False
    info: dict[str, Any] = field(default_factory=dict)


class Environment(ABC):
    """A live environment. After `reset(task)` the same actions give the same steps, always."""

    @abstractmethod
    def reset(self, task: Task) -> str:
        """Begin a task anew, whatever was before; gives the first observation.

        Raises:
            EnvironmentFailed: There is no such task.
            EnvironmentDied: See there.
        """

    @abstractmethod
    def step(self, action: str) -> Step:
        """Do one action; not called after `done`.

        Raises:
            EnvironmentDied: See there.
        """

    def valid_actions(self) -> list[str] | None:
        """Actions that are possible now, or None where the environment can't say."""
        return None

    def snapshot(self) -> Any | None:
        """The state as an immutable value for `restore`, or None where it has to be replayed."""
        return None

    def restore(self, state: Any) -> None:
        """Go back to a state of the *same task* that `snapshot` gave."""
        raise NotImplementedError

    def alive(self) -> bool:
        """False once it is known that it died, so that the next call would say so; asked before each use."""
        return True

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Free what it holds."""


class Conversation(BaseModel):
    """How an episode looks to a chat model: the opening, and how an action is read from an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = Field("", description="System message; none if empty.")
    instruction: str = Field("", description="First user message; {task} stands for the first observation.")
    acknowledge: str = Field(
        "", description="Assistant's reply to the instruction, after which the first observation "
        "follows as a turn of its own; without it, instruction and observation are one message."
    )  # fmt: skip
    action: Literal["line", "react"] = Field(
        "react",
        description="react: what follows the last 'Action:', else the last line. line: the last line.",
    )
    one_line: bool = Field(False, description="Newlines and tabs of observations become spaces.")

    def open(self, observation: str) -> list[Message]:
        """The conversation before the first action."""
        seen = self.shown(observation)
        system = [Message(role="system", content=self.system)] if self.system else []
        if "{task}" in self.instruction or not self.instruction:
            text = self.instruction.replace("{task}", seen) if self.instruction else seen
            return [*system, Message(role="user", content=text)]
        if not self.acknowledge:
            return [*system, Message(role="user", content=f"{self.instruction}\n\n{seen}")]
        return [
            *system,
            Message(role="user", content=self.instruction),
            Message(role="assistant", content=self.acknowledge),
            Message(role="user", content=seen),
        ]

    def shown(self, observation: str) -> str:
        """An observation as the policy sees it."""
        return " ".join(observation.split()) if self.one_line else observation

    def read(self, answer: str) -> str:
        """The action in a policy's answer, without Markdown around it; empty if there is none."""
        marked = self.action == "react" and "Action:" in answer
        text = answer.rpartition("Action:")[2] if marked else answer
        lines = [bare for line in text.splitlines() if (bare := _bare(line))]
        return lines[0 if marked else -1] if lines else ""


class EnvironmentSpec(Component):
    """Options of an environment; registered in the group ``environment``."""

    conversation: Conversation = Conversation()
    intercept: dict[str, str] = Field(
        default_factory=dict,
        description="Actions that never reach the environment, whatever their case and the marks "
        "around them, each with the reply that it gets.",
    )
    instances: int = how(default=8, ge=1, description="Live environments at most.")
    step_seconds: float | None = how(
        default=None, gt=0, description="An action that takes longer ends its episode."
    )

    @field_validator("conversation", mode="before")
    @classmethod
    def _completed(cls, given: Any) -> Any:
        """What a recipe leaves out is the environment's own, not that of `Conversation`."""
        default = cls.model_fields["conversation"].get_default(call_default_factory=True)
        if isinstance(given, Mapping) and isinstance(default, Conversation):
            return {**dict(default), **given}
        return given

    @property
    def known_as(self) -> str:
        """What tasks call it in `meta.environment`; two in one stage differ in it."""
        return self.NAME

    def fingerprint(self) -> dict[str, Any]:
        """What determines the replies beside the options (rule files, versions), for stage keys.

        Raises:
            EnvironmentFailed: As `build` does; planning calls this, so that it is known early.
        """
        return {}

    def build(self) -> Environment:
        """A live environment.

        Raises:
            EnvironmentFailed: Something it needs is missing; the message says how to get it.
        """
        raise NotImplementedError

    def shut_down(self) -> None:
        """Free what all live environments share (a JVM)."""


def _bare(line: str) -> str:
    """A line without what Markdown puts around it."""
    return NUMBERING.sub("", line.strip().strip(MARKS)).lstrip(MARKS)

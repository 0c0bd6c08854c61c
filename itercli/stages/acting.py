"""What stages that act in environments share: tasks, environments, prompts and steps.

An answer's step is taken when the answer arrives and is journaled with it (`Ask.then`), so the
jobs see turns as a pure function of answers: a kill loses calls in flight, and no step that was
taken is taken again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import Field, field_validator

from itercli.environments.base import EnvironmentFailed, EnvironmentSpec
from itercli.environments.pool import Worlds
from itercli.environments.window import Count, Window
from itercli.recipe.fields import Environment
from itercli.recipe.seeds import digest
from itercli.records import Call, Message, Prompt, Turn
from itercli.registry import how
from itercli.sampling.base import Sampled, SamplingParams
from itercli.stages.base import ModelLink, StageContext, StageError
from itercli.stages.jobs import Ask, JobStage
from itercli.stages.prompts import Prompted

INCIDENTS = ("deaths", "timeouts")


@dataclass(frozen=True)
class Scene:
    """A task in its environment, as a job sees it."""

    prompt: Prompt
    spec: EnvironmentSpec
    worlds: Worlds
    window: Window

    @property
    def task_id(self) -> str:
        """Names the task among all that the environments ever get: prompt ids come again elsewhere."""
        return f"{self.prompt.id}@{digest(self.prompt.meta['task'], 12)}"

    @cached_property
    def opening(self) -> list[Message]:
        """The conversation before the first action.

        Raises:
            EnvironmentFailed: The task can't be begun.
        """
        first = self.worlds.open(self.task_id, self.prompt.meta["task"])
        return self.spec.conversation.open(first)

    def asks(self, turns: Sequence[Turn], params: SamplingParams, n: int = 1) -> tuple[Ask, ...]:
        """Calls for `n` next turns after these; equal answers step once."""
        before = tuple(turns)
        messages, left_out = self.window.fit(self.opening, before)
        known: dict[str, dict[str, Any]] = {}

        def act(drawn: Sampled) -> dict[str, Any]:
            if drawn.finish == "error":  # the prompt does not fit: nothing was said
                return {}
            if drawn.text not in known:
                known[drawn.text] = self.step(before, drawn.text) | {"left_out": left_out}
            return known[drawn.text]

        return tuple(Ask("act", messages, params, then=act) for _ in range(n))

    def step(self, turns: Sequence[Turn], text: str) -> dict[str, Any]:
        """Take the action in an answer; gives the fields of its `Turn`.

        A score is never negative: below zero the environment ended in a disaster, which counts 0.
        Where the environment fails, what had been reached before stands.
        """
        action = self.spec.conversation.read(text)
        actions = [*(turn.action for turn in turns), action]
        step = self.worlds.play(self.task_id, self.prompt.meta["task"], actions)
        reached = turns[-1].score if turns else 0.0
        failed, disaster = "error" in step.info, step.score < 0
        return {
            "action": action,
            "observation": self.spec.conversation.shown(step.observation),
            "reward": 0.0 if failed else step.reward,
            "score": reached if failed else max(step.score, 0.0),
            "done": step.done or disaster,
            "info": step.info | ({"disaster": True} if disaster else {}),
        }


def turn_of(call: Call) -> Turn | None:
    """The turn that a finished call made; None if its prompt did not fit the model."""
    if not call.meta:
        return None
    return Turn(text=call.completion, finish=call.finish, generated=call.generated, **call.meta)


class ActingStage(Prompted, JobStage):
    """Base of stages in which a role acts in environments, many tasks at once."""

    role: str = Field(description="Role whose current version acts.")
    environment: tuple[Environment, ...] = Field(
        description="One, or a list; each task's meta.environment names its own."
    )
    window_turns: int | None = Field(None, ge=1, description="Turns in a prompt at most; the newest stay.")
    window_tokens: int | None = Field(
        None, ge=1, description="Tokens of a prompt at most; the oldest turns are left out."
    )
    concurrent: int | None = how(
        default=None,
        ge=1,
        description="Tasks under way at once. More than an environment has instances cost it replays.",
    )

    def objection(self, prompt: Prompt) -> str:
        specs = [spec.known_as for spec in self.environment]
        if (name := prompt.meta.get("environment")) not in specs:
            return (
                f"task {prompt.id!r} is of environment {name!r}, which `environment:` does not list "
                f"({', '.join(specs)}); list it, or take other prompts"
            )
        return (
            ""
            if "task" in prompt.meta
            else f"prompt {prompt.id!r} has no meta.task: its source makes no tasks"
        )

    @field_validator("environment", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return given if isinstance(given, list | tuple) else (given,)

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["role"]
        return params

    def fingerprint(self) -> dict[str, Any]:
        found = {spec.known_as: spec.fingerprint() for spec in self.environment}
        return {name: what for name, what in found.items() if what}

    def check(self) -> list[tuple[str, str, str]]:
        names = [spec.known_as for spec in self.environment]
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            return [("environment", f"{twice[0]} is listed twice", "each environment once")]
        return [] if names else [("environment", "no environment is listed", "one, or a list")]

    def scenes(self, ctx: StageContext) -> list[Scene]:
        """The tasks in their environments, before anything is asked.

        Raises:
            StageError: There are no tasks, or one of an environment that is not listed.
            EnvironmentFailed: An environment can't be set up here; the message says what is missing.
        """
        tasks = [p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)]
        specs = {spec.known_as: spec for spec in self.environment}
        for p in tasks:
            if what := self.objection(p):
                raise StageError(f"{ctx.name}: {what}")
        if not tasks:
            raise StageError(f"{ctx.name}: there are no tasks; check the source of its prompts")
        window = Window(self.window_turns, self.window_tokens, self._counter(ctx))
        used = {
            name: spec for name, spec in specs.items() if any(p.meta["environment"] == name for p in tasks)
        }
        pools = {name: open_worlds(ctx, spec) for name, spec in used.items()}
        return [Scene(p, specs[e], pools[e], window) for p in tasks for e in [p.meta["environment"]]]

    def _counter(self, ctx: StageContext) -> Count:
        """Counts a prompt's tokens as the sampler would encode it; the tokenizer comes when it is needed."""
        if self.window_tokens is None:
            return len
        ref = ctx.models["policy"]
        if ref.served:
            raise StageError(
                f"{ctx.name}: window_tokens needs the tokenizer of {ref.served!r}, which is only behind a "
                "server; set window_turns instead"
            )

        def load() -> Any:
            from itercli.models.load import load_tokenizer

            return load_tokenizer(ref)

        def count(messages: Sequence[Message]) -> int:
            from itercli.sampling.prompting import encode_prompt

            return len(encode_prompt(ctx.shared(f"window tokenizer:{ref.base}", load), messages))

        return count


def open_worlds(ctx: StageContext, spec: EnvironmentSpec) -> Worlds:
    """The worker's live environments of a spec, which outlive stages; their counts begin at zero.

    Raises:
        EnvironmentFailed: None can be built here.
    """
    options = json.dumps(spec.model_dump(mode="json", exclude={"conversation"}), sort_keys=True)
    worlds = ctx.shared(f"environment {spec.known_as}:{options}", lambda: Worlds(spec))
    worlds.prepare()
    worlds.counts.clear()
    return worlds


def incidents(scenes: Iterable[Scene]) -> dict[str, int]:
    """How often environments died or were too slow since the stage began, if they did."""
    pools = {id(scene.worlds): scene.worlds for scene in scenes}
    counts = {name: sum(w.counts[name] for w in pools.values()) for name in INCIDENTS}
    return {f"environment {name}": n for name, n in counts.items() if n}


def failed_to_begin(ctx: StageContext, scene: Scene, error: EnvironmentFailed) -> None:
    """Log that a task could not be begun."""
    ctx.event("environment_failed", prompt=scene.prompt.id, environment=scene.spec.known_as, error=str(error))

"""A scorer that measures: a number of each completion, one that is missing for some, one for all."""

from __future__ import annotations

from typing import Any, ClassVar

from itercli.records import Prompt, Score, Trajectory
from itercli.registry import register
from itercli.verifiers.base import Scorer


class MeasuringJudge:
    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score:
        number = int(trajectory.completion.partition(" at ")[0])
        task = int(prompt.id[1:])
        depth = None if task < 2 or (task == 2 and trajectory.index == 0) else float(task)
        return Score(
            prompt_id=prompt.id, index=trajectory.index, completion=trajectory.completion,
            policy=trajectory.policy, value=1.0,
            meta={"words": 100 + number, "even": number % 2 == 0, "depth": depth, "rank": None,
                  "judge": "toy", "undeclared": task},
        )  # fmt: skip

    def close(self) -> None:
        pass


@register("scorer", "measuring")
class Measuring(Scorer):
    MEASURES: ClassVar[tuple[str, ...]] = ("words", "even", "depth", "rank")

    def open(self) -> MeasuringJudge:
        return MeasuringJudge()

    def fingerprint(self) -> dict[str, Any]:
        return {}

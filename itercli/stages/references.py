"""Stage `references`: the prompts' own answers as if somebody had drawn them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.records import Finish, Prompt, Trajectory
from itercli.registry import register
from itercli.stages.base import StageContext, StageError
from itercli.stages.prompts import Prompted

REFERENCE = "reference"
# How an answer can have ended.
ENDS = ("stop", "length")


@register("stage", "references")
class References(Prompted):
    """Gives reference answers to stages that read completions, so that they can be scored or compared.

    Prompts without one are left out and counted.
    """

    OUTPUT = "trajectories"
    VERSION: ClassVar[int] = 2
    NEEDS_EVERY = False

    uses: Literal["references"] = "references"
    field: str | None = Field(
        None,
        description="Prompt meta field with a list of answers, to be given instead of the reference; a field "
        "of that name and `_finish` says how each ended (stop, length), if there is one.",
    )

    def needs(self) -> tuple[str, ...]:
        return ("Prompt.reference" if self.field is None else f"Prompt.meta.{self.field}",)

    def run(self, ctx: StageContext) -> None:
        prompts = [p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)]
        answers = {p.id: self._answers(ctx, p) for p in prompts}
        rows = (
            Trajectory(
                prompt_id=p,
                index=i,
                seed=0,
                completion=text,
                finish=finish,
                tokens=0,
                policy=self.field or REFERENCE,
            )
            for p, texts in answers.items()
            for i, (text, finish) in enumerate(texts)
        )
        missing = sum(not texts for texts in answers.values())
        if self.field is not None and missing == len(answers):
            raise StageError(
                f"{ctx.name}: none of {missing} prompts has meta.{self.field}; draw answers with "
                f"`{{uses: sample, role: policy, prompts: ..., n: 4}}` in its place"
            )
        ctx.finish_rows(Trajectory, rows, **({"without a reference": missing} if missing else {}))

    def _answers(self, ctx: StageContext, prompt: Prompt) -> list[tuple[str, Finish]]:
        """(text, how it ended) of each."""
        if self.field is None:
            return [] if prompt.reference is None else [(prompt.reference, "stop")]
        found = prompt.meta.get(self.field, [])
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise StageError(f"{ctx.name}: meta.{self.field} of prompt {prompt.id!r} is no list of texts")
        ends: Any = prompt.meta.get(f"{self.field}_finish", ["stop"] * len(found))
        if (
            not isinstance(ends, list)
            or len(ends) != len(found)
            or not all(isinstance(end, str) and end in ENDS for end in ends)
        ):
            raise StageError(
                f"{ctx.name}: meta.{self.field}_finish of prompt {prompt.id!r} must say of each of "
                f"{len(found)} answers how it ended: {' or '.join(ENDS)}"
            )
        return list(zip(found, ends, strict=True))

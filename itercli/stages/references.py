"""Stage `references`: the prompts' own answers as if somebody had drawn them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from itercli.records import Prompt, Trajectory
from itercli.registry import register
from itercli.stages.base import StageContext, StageError
from itercli.stages.prompts import Prompted

REFERENCE = "reference"


@register("stage", "references")
class References(Prompted):
    """Gives reference answers to stages that read completions, so that they can be scored or compared.

    Prompts without one are left out and counted.
    """

    OUTPUT = "trajectories"
    NEEDS_EVERY = False

    uses: Literal["references"] = "references"
    field: str | None = Field(
        None, description="Prompt meta field with a list of answers, to be given instead of the reference."
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
                finish="stop",
                tokens=0,
                policy=self.field or REFERENCE,
            )
            for p, texts in answers.items()
            for i, text in enumerate(texts)
        )
        missing = sum(not texts for texts in answers.values())
        if self.field is not None and missing == len(answers):
            raise StageError(
                f"{ctx.name}: none of {missing} prompts has meta.{self.field}; draw answers with "
                f"`{{uses: sample, role: policy, prompts: ..., n: 4}}` in its place"
            )
        ctx.finish_rows(Trajectory, rows, **({"without a reference": missing} if missing else {}))

    def _answers(self, ctx: StageContext, prompt: Prompt) -> list[str]:
        if self.field is None:
            return [] if prompt.reference is None else [prompt.reference]
        found = prompt.meta.get(self.field, [])
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise StageError(f"{ctx.name}: meta.{self.field} of prompt {prompt.id!r} is no list of texts")
        return found

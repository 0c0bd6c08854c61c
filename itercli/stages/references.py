"""Stage `references`: the prompts' own answers as if somebody had drawn them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from itercli.records import Prompt, Trajectory
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext
from itercli.stages.prompts import inline

REFERENCE = "reference"


@register("stage", "references")
class References(Stage):
    """Gives reference answers to stages that read completions, so that they can be scored or compared.

    Prompts without one are left out and counted.
    """

    OUTPUT = "trajectories"

    uses: Literal["references"] = "references"
    prompts: str | dict[str, Any] = Field(description="A `prompts` stage, or a source in place.")

    def links(self, name: str) -> list[Link]:
        return [Link("prompts", inline(self.prompts, name)[0], ("prompts",), "prompts")]

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        return inline(self.prompts, name)[1]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["prompts"]
        return params

    def run(self, ctx: StageContext) -> None:
        prompts = [p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)]
        rows = [
            Trajectory(
                prompt_id=p.id,
                index=0,
                seed=0,
                completion=p.reference,
                finish="stop",
                tokens=0,
                policy=REFERENCE,
            )
            for p in prompts
            if p.reference is not None
        ]
        missing = len(prompts) - len(rows)
        ctx.finish_rows(Trajectory, iter(rows), **({"without a reference": missing} if missing else {}))

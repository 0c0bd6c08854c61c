"""Stage `prompts`: read a data source once and keep its prompts as an artifact."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from itercli.recipe.fields import Source
from itercli.records import Prompt
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext, StageError


@register("stage", "prompts")
class Prompts(Stage):
    """Reads prompts from a source; rows keep the source's order."""

    OUTPUT = "prompts"

    uses: Literal["prompts"] = "prompts"
    source: Source = Field(description="Where the prompts come from.")

    def clusters(self) -> tuple[str, ...]:
        return tuple(getattr(self.source, "clusters", tuple)())  # a plug-in's source may be any component

    def fingerprint(self) -> dict[str, Any]:
        return self.source.fingerprint()

    def run(self, ctx: StageContext) -> None:
        rows: dict[str, Prompt] = {}
        for prompt in self.source.prompts():
            if not isinstance(prompt, Prompt):
                raise StageError(
                    f"{ctx.name}: source {self.source.NAME} gives a {type(prompt).__name__} where a Prompt "
                    f"is wanted"
                )
            if prompt.id in rows:
                raise StageError(
                    f"{ctx.name}: source {self.source.NAME} gives prompt id {prompt.id!r} twice; "
                    f"ids must be unique"
                )
            rows[prompt.id] = prompt
            ctx.progress(len(rows), None, "prompts")
        if not rows:
            raise StageError(
                f"{ctx.name}: source {self.source.NAME} gave no prompts; check its path, split and limit"
            )
        ctx.finish_rows(Prompt, iter(rows.values()))


def inline(prompts: str | dict[str, Any], name: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Let a stage take prompts by stage name or as a source written in place.

    Returns:
        The reference to use, and the child stage to add if the source was in place.
    """
    if isinstance(prompts, str):
        return prompts, {}
    return f"{name}.prompts", {"prompts": {"uses": "prompts", "source": prompts}}


class Prompted(Stage):
    """Base of stages that take prompts."""

    prompts: str | dict[str, Any] = Field(description="A `prompts` stage, or a source in place.")

    def links(self, name: str) -> list[Link]:
        return [Link("prompts", inline(self.prompts, name)[0], ("prompts",), "prompts")]

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        return inline(self.prompts, name)[1]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["prompts"]  # where they come from is the input's key
        return params

"""Stage `measure`: metrics of a score stage that is there anyway, without sampling anew.

The score stage may be a judge whose rows hold dimensions that no class declares, so names
of metrics are checked against the rows, not in the plan.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from itercli.recipe.errors import nearest
from itercli.records import Prompt, Score
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.summary import ALWAYS, SummaryStage, collect, is_measure, prompt_values


@register("stage", "measure")
class Measure(SummaryStage):
    """Summarises the rows of a score stage: means with intervals over prompts, by group."""

    uses: Literal["measure"] = "measure"
    of: str = Field(description="The stage whose scores are summarised.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("scores",), "of")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"]
        return params

    def check(self) -> list[tuple[str, str, str]]:
        if self.of.startswith("all."):
            return [("of", "rows of several iterations have the same keys", "one stage that makes scores")]
        return []

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        found = collect(ctx.name, self.metrics, (s for a in ctx.inputs["of"] for s in a.rows(Score)))
        if not any(found.rows.values()):
            raise StageError(f"{ctx.name}: {self.of} has no scores to summarise")
        for metric in self.metrics:
            if is_measure(metric) and metric not in found.measures:
                near = nearest(metric, found.measures)
                raise StageError(
                    f"{ctx.name}: no row of {self.of} measures {metric!r}. There are: "
                    f"{', '.join([*sorted(found.measures), *ALWAYS])}"
                    + (f". Did you mean {near}?" if near else "")
                )
        values = {metric: prompt_values(ctx.name, metric, rows) for metric, rows in found.rows.items()}
        clusters = self.clusters_of(ctx.name, prompts.values())
        groups = self.table(values, prompts.values(), ctx.seed, clusters)
        ctx.finish_file("groups.json", {"by": self.by, "groups": groups})
        ctx.finish_metrics({metric: self.mean(of, ctx.seed, clusters) for metric, of in values.items()})

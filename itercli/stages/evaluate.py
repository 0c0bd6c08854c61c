"""Stage `evaluate`: how good a role is on held-out prompts.

It is made of a `sample` and a `score` stage, which stream, resume and can be looked at
like any other, and of the metrics computed from their rows.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from itercli import registry
from itercli.recipe.errors import nearest
from itercli.records import Prompt, Score
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.overlong import ON_OVERLONG, OnOverlong
from itercli.stages.prompts import inline
from itercli.stages.score import DEFAULT_MAX_FAILED, MAX_FAILED
from itercli.stages.summary import ALWAYS, SummaryStage, Values, collect, is_measure, pass_k, prompt_values


@register("stage", "evaluate")
class Evaluate(SummaryStage):
    """Samples from the role's current version, scores, and reports metrics with intervals."""

    DEFAULTS = ("sampler",)

    uses: Literal["evaluate"] = "evaluate"
    role: str = Field(description="Role whose current version is evaluated.")
    prompts: str | dict[str, Any] = Field(description="A `prompts` stage, or a source in place.")
    scorer: str | dict[str, Any] = Field("functional", description="Which scorer judges.")
    metrics: tuple[str, ...] = Field(
        ("pass@1",), min_length=1, description="pass@K, mean_score, or a number that the scorer measures."
    )
    n: int = Field(4, ge=1, description="Completions per prompt.")
    temperature: float | tuple[float, ...] = Field(
        0.8, description="Softmax temperature; of several, each metric's best counts, and says which it is."
    )
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus mass; 1 is off.")
    top_k: int = Field(0, ge=0, description="Tokens kept; 0 is off.")
    repetition_penalty: float = Field(1.0, gt=0, description="Penalty on tokens seen before; 1 is off.")
    max_new_tokens: int = Field(512, ge=1, description="Token budget of a completion.")
    stop: tuple[str, ...] = Field((), description="Strings that end a completion.")
    sampler: str | dict[str, Any] | None = Field(
        None, description="How to sample; `sampler:` of the recipe unless given."
    )

    on_overlong: OnOverlong = Field("fit", description=ON_OVERLONG)
    max_failed: float = Field(DEFAULT_MAX_FAILED, ge=0, le=1, description=MAX_FAILED)

    @property
    def temperatures(self) -> dict[str, float]:
        """Suffix of the child stages -> temperature."""
        if isinstance(self.temperature, float):
            return {"": self.temperature}
        return {f"_t{i}": t for i, t in enumerate(self.temperature)}

    def links(self, name: str) -> list[Link]:
        return [
            Link(f"scores{suffix}", f"{name}.score{suffix}", ("scores",), "prompts")
            for suffix in self.temperatures
        ]

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        same = ("role", "n", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "sampler")
        shared = {key: getattr(self, key) for key in (*same, "on_overlong")}
        prompts, children = inline(self.prompts, name)
        for suffix, temperature in self.temperatures.items():
            sample = {"uses": "sample", "prompts": prompts, "stop": list(self.stop), **shared}
            children[f"sample{suffix}"] = {**sample, "temperature": temperature}
            children[f"score{suffix}"] = {
                "uses": "score",
                "of": f"{name}.sample{suffix}",
                "scorer": self.scorer,
                "max_failed": self.max_failed,
            }
        return children

    def key_params(self) -> dict[str, Any]:
        # Everything else is in the keys of its two children.
        return {
            "name": self.NAME,
            "version": self.VERSION,
            "temperatures": list(self.temperatures.values()),
            **{k: _plain(getattr(self, k)) for k in ("metrics", "by", "cluster", "confidence", "resamples")},
        }

    def check(self) -> list[tuple[str, ...]]:
        problems: list[tuple[str, ...]] = []
        if not self.temperatures:
            problems.append(("temperature", "no temperature given", "a number, or a list of them"))
        name = self.scorer if isinstance(self.scorer, str) else str(self.scorer.get("name"))
        scorer = registry.find("scorer", name)
        measures: tuple[str, ...] = getattr(scorer, "MEASURES", ())
        for metric in self.metrics:
            k = pass_k(metric)
            if k is not None and k > self.n:
                what = f"{metric} needs at least {k} completions per prompt, n is {self.n}"
                problems.append(("metrics", what, f"n >= {k}"))
            elif not is_measure(metric) or scorer is None:  # an unknown scorer is the child's problem
                continue
            elif metric not in measures:
                allowed = ", ".join([*ALWAYS, *measures])
                near = nearest(metric, ["pass@1", "mean_score", *measures])
                problems.append(("metrics", f"scorer {name} has no metric {metric!r}", allowed, near))
            elif len(self.temperatures) > 1:
                what = f"of several temperatures the best counts, which means nothing for {metric!r}"
                problems.append(("temperature", what, "one temperature, or only pass@K and mean_score"))
        return problems

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        clusters = self.clusters_of(ctx.name, prompts.values())
        values = {t: self._values(ctx, f"scores{suffix}", prompts) for suffix, t in self.temperatures.items()}
        result: dict[str, Any] = {}
        reported: dict[str, Values] = {}
        for metric in self.metrics:
            means = {t: self.mean(of[metric], ctx.seed, clusters) for t, of in values.items()}
            best = max(means, key=lambda t: (means[t]["prompts"] > 0, means[t]["value"]))
            result[metric], reported[metric] = means[best], values[best][metric]
            if len(means) > 1:
                # RTLCoder reports each k at its best temperature; here one sees that it is so.
                result[metric]["temperature"] = best
                result |= {f"{metric} T={t:g}": mean for t, mean in means.items()}
        groups = self.table(reported, prompts.values(), ctx.seed, clusters)
        ctx.finish_file("groups.json", {"by": self.by, "groups": groups})
        ctx.finish_metrics(result)

    def _values(self, ctx: StageContext, slot: str, prompts: dict[str, Prompt]) -> dict[str, Values]:
        """Metric -> value for each prompt; of one whose rows all failed it is missing."""
        found = collect(ctx.name, self.metrics, (s for a in ctx.inputs[slot] for s in a.rows(Score)))
        if not any(found.rows.values()):
            raise StageError(f"{ctx.name}: none of {len(prompts)} prompts has a score")
        values = {metric: prompt_values(ctx.name, metric, rows) for metric, rows in found.rows.items()}
        return {metric: {p: of.get(p) for p in prompts} for metric, of in values.items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

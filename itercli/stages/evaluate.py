"""Stage `evaluate`: how good a role is on held-out prompts.

It is made of a `sample` and a `score` stage, which stream, resume and can be looked at
like any other, and of the metrics computed from their rows.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from itercli.records import Prompt, Score
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext, StageError
from itercli.stages.prompts import inline

METRIC = re.compile(r"pass@([1-9]\d*)|mean_score")


@register("stage", "evaluate")
class Evaluate(Stage):
    """Samples from the role's current version, scores, and reports metrics with intervals."""

    OUTPUT = "metrics"
    WITH_PROMPTS = True
    SEEDED = True
    DEFAULTS = ("sampler",)

    uses: Literal["evaluate"] = "evaluate"
    role: str = Field(description="Role whose current version is evaluated.")
    prompts: str | dict[str, Any] = Field(description="A `prompts` stage, or a source in place.")
    scorer: str | dict[str, Any] = Field("functional", description="Which scorer judges.")
    metrics: tuple[str, ...] = Field(("pass@1",), min_length=1, description="pass@K or mean_score.")
    n: int = Field(4, ge=1, description="Completions per prompt.")
    temperature: float | tuple[float, ...] = Field(
        0.8, description="Softmax temperature; of several, each metric's best counts, and says which it is."
    )
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    stop: tuple[str, ...] = ()
    by: str | None = Field("template", description="Prompt meta field that metrics are broken down by.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Level of the bootstrap interval over prompts.")
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples.")
    sampler: str | dict[str, Any] | None = None

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
        shared = {
            key: getattr(self, key) for key in ("role", "n", "top_p", "top_k", "max_new_tokens", "sampler")
        }
        prompts, children = inline(self.prompts, name)
        for suffix, temperature in self.temperatures.items():
            sample = {"uses": "sample", "prompts": prompts, "stop": list(self.stop), **shared}
            children[f"sample{suffix}"] = {**sample, "temperature": temperature}
            children[f"score{suffix}"] = {
                "uses": "score",
                "of": f"{name}.sample{suffix}",
                "scorer": self.scorer,
            }
        return children

    def key_params(self) -> dict[str, Any]:
        # Everything else is in the keys of its two children.
        return {
            "name": self.NAME,
            "version": self.VERSION,
            "temperatures": list(self.temperatures.values()),
            **{k: _plain(getattr(self, k)) for k in ("metrics", "by", "confidence", "resamples")},
        }

    def check(self) -> list[tuple[str, str, str]]:
        problems = []
        if not self.temperatures:
            problems.append(("temperature", "no temperature given", "a number, or a list of them"))
        for metric in self.metrics:
            match = METRIC.fullmatch(metric)
            if match is None:
                problems.append(
                    ("metrics", f"unknown metric {metric!r}", "pass@K (K = 1, 2, ...), mean_score")
                )
            elif match[1] and int(match[1]) > self.n:
                problems.append(
                    (
                        "metrics",
                        f"{metric} needs at least {match[1]} completions per prompt, n is {self.n}",
                        f"n >= {match[1]}",
                    )
                )
        return problems

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        groups: dict[str, list[str]] = {}
        for p in prompts.values():
            if self.by and self.by in p.meta:
                groups.setdefault(str(p.meta[self.by]), []).append(p.id)
        scores = {t: self._scores(ctx, f"scores{suffix}", prompts) for suffix, t in self.temperatures.items()}
        result: dict[str, Any] = {}
        table: dict[str, dict[str, Any]] = {g: {"prompts": len(ids)} for g, ids in sorted(groups.items())}
        for metric in self.metrics:
            values = {t: self._values(ctx, metric, rows) for t, rows in scores.items()}
            means = {t: self._mean(ctx, list(v.values())) for t, v in values.items()}
            best = max(means, key=lambda t: means[t]["value"])
            result[metric] = means[best]
            if len(means) > 1:
                # RTLCoder reports each k at its best temperature; here one sees that it is so.
                result[metric]["temperature"] = best
                result |= {f"{metric} T={t:g}": mean for t, mean in means.items()}
            for group, ids in groups.items():
                table[group][metric] = self._mean(ctx, [values[best][i] for i in ids])
        ctx.finish_file("groups.json", {"by": self.by, "groups": table})
        ctx.finish_metrics(result)

    def _scores(self, ctx: StageContext, slot: str, prompts: dict[str, Prompt]) -> dict[str, list[Score]]:
        """Scores by prompt; every prompt must have some."""
        scores: dict[str, list[Score]] = {}
        for artifact in ctx.inputs[slot]:
            for score in artifact.rows(Score):
                scores.setdefault(score.prompt_id, []).append(score)
        if missing := prompts.keys() - scores.keys():
            raise StageError(
                f"{ctx.name}: {len(missing)} prompts were not scored, for example {min(missing)}"
            )
        return scores

    def _values(self, ctx: StageContext, metric: str, scores: dict[str, list[Score]]) -> dict[str, float]:
        """A metric's value for each prompt."""
        from itercli.verifiers.passk import pass_at_k

        match = METRIC.fullmatch(metric)
        if match is None or not match[1]:
            return {p: sum(r.value for r in rows) / len(rows) for p, rows in scores.items()}
        if any(r.passed is None for rows in scores.values() for r in rows):
            raise StageError(
                f"{ctx.name}: {metric} needs a scorer that tells right from wrong; "
                f"{self.scorer!r} leaves `passed` open"
            )
        k = int(match[1])
        return {p: pass_at_k(len(rows), sum(r.passed is True for r in rows), k) for p, rows in scores.items()}

    def _mean(self, ctx: StageContext, values: list[float]) -> dict[str, float]:
        """Mean over prompts with its bootstrap interval."""
        from itercli.verifiers.passk import bootstrap_mean

        mean, low, high = bootstrap_mean(
            values, confidence=self.confidence, resamples=self.resamples, seed=ctx.seed
        )
        return {"value": mean, "low": low, "high": high, "prompts": len(values)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

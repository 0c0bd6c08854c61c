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
    temperature: float = Field(0.8, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    stop: tuple[str, ...] = ()
    by: str | None = Field("template", description="Prompt meta field that metrics are broken down by.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Level of the bootstrap interval over prompts.")
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples.")
    sampler: str | dict[str, Any] | None = None

    def links(self, name: str) -> list[Link]:
        return [Link("scores", f"{name}.score", ("scores",), "prompts")]

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        sample = {
            key: getattr(self, key)
            for key in ("role", "n", "temperature", "top_p", "top_k", "max_new_tokens", "sampler")
        }
        prompts, children = inline(self.prompts, name)
        return {
            **children,
            "sample": {"uses": "sample", "prompts": prompts, "stop": list(self.stop), **sample},
            "score": {"uses": "score", "of": f"{name}.sample", "scorer": self.scorer},
        }

    def key_params(self) -> dict[str, Any]:
        # Everything else is in the keys of its two children.
        return {
            "name": self.NAME,
            "version": self.VERSION,
            **{k: _plain(getattr(self, k)) for k in ("metrics", "by", "confidence", "resamples")},
        }

    def check(self) -> list[tuple[str, str, str]]:
        problems = []
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
        from itercli.verifiers.passk import bootstrap_mean, pass_at_k

        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        scores: dict[str, list[Score]] = {}
        for artifact in ctx.inputs["scores"]:
            for score in artifact.rows(Score):
                scores.setdefault(score.prompt_id, []).append(score)
        if missing := prompts.keys() - scores.keys():
            raise StageError(
                f"{ctx.name}: {len(missing)} prompts were not scored, for example {min(missing)}"
            )
        groups: dict[str, list[str]] = {}
        if self.by:
            for p in prompts.values():
                if self.by in p.meta:
                    groups.setdefault(str(p.meta[self.by]), []).append(p.id)
        result: dict[str, Any] = {}
        table: dict[str, dict[str, float]] = {g: {"prompts": len(ids)} for g, ids in sorted(groups.items())}
        for metric in self.metrics:
            match = METRIC.fullmatch(metric)
            values = {}
            for prompt_id, rows in scores.items():
                if match and match[1]:
                    if any(r.passed is None for r in rows):
                        raise StageError(
                            f"{ctx.name}: {metric} needs a scorer that tells right from wrong; "
                            f"{self.scorer!r} leaves `passed` open"
                        )
                    correct = sum(r.passed is True for r in rows)
                    values[prompt_id] = pass_at_k(len(rows), correct, int(match[1]))
                else:
                    values[prompt_id] = sum(r.value for r in rows) / len(rows)
            mean, low, high = bootstrap_mean(
                list(values.values()), confidence=self.confidence, resamples=self.resamples, seed=ctx.seed
            )
            result[metric] = {"value": mean, "low": low, "high": high, "prompts": len(values)}
            for group, ids in groups.items():
                table[group][metric] = sum(values[i] for i in ids) / len(ids)
        ctx.finish_file("groups.json", {"by": self.by, "groups": dict(sorted(table.items()))})
        ctx.finish_metrics(result)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

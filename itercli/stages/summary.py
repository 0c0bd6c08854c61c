"""Metrics of score rows: a value for each prompt, means with intervals, and groups.

A metric is ``pass@K``, ``mean_score``, or the name of a number that the scorer puts into
each row's `meta` (a *measure*: words, a judge's dimension). A prompt's value is the mean
over its completions; a measure that is None is missing, not zero: the completion is left
out, and where all of a prompt's are missing, the prompt is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field

from itercli.records import Prompt, Score
from itercli.stages.base import StageError
from itercli.stages.clusters import Clustered

METRIC = re.compile(r"pass@([1-9]\d*)|mean_score")
ALWAYS = ("pass@K (K = 1, 2, ...)", "mean_score")
Values = dict[str, float | None]


class SummaryStage(Clustered):
    """Base of stages that report metrics of score rows."""

    OUTPUT = "metrics"
    WITH_PROMPTS = True
    SEEDED = True
    VERSION: ClassVar[int] = 3  # 2: BCa intervals, over clusters; 3: more resamples of few

    metrics: tuple[str, ...] = Field(
        min_length=1, description="pass@K, mean_score, or a number that the scorer measures."
    )
    by: str | None = Field("template", description="Prompt meta field that metrics are broken down by.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Level of the bootstrap intervals.")
    resamples: int = Field(1000, ge=100, description="Bootstrap resamples, at least.")

    def mean(self, values: Values, seed: int, clusters: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Mean over prompts with its bootstrap interval; None where no prompt has a value.

        `missing` is there only if some prompt has none, `clusters` (how many) only if prompts have some.

        Args:
            values: Prompt id -> value.
            clusters: Prompt id -> cluster; a prompt that is not in it is one of its own.
        """
        from itercli.verifiers.intervals import bootstrap_mean, enough, in_clusters

        known = {p: v for p, v in values.items() if v is not None}
        mean: tuple[float | None, ...] = (None, None, None)
        groups = in_clusters(known, clusters)
        if known:
            mean = bootstrap_mean(
                known.values(),
                clusters=groups,
                confidence=self.confidence,
                resamples=enough(self.resamples, len(set(groups))),
                seed=seed,
            )
        result = dict(zip(("value", "low", "high"), mean, strict=True)) | {"prompts": len(known)}
        if clusters:
            result["clusters"] = len(set(groups))
        missing = len(values) - len(known)
        return result | {"missing": missing} if missing else result

    def table(
        self,
        values: Mapping[str, Values],
        prompts: Iterable[Prompt],
        seed: int,
        clusters: Mapping[str, str] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Group -> its number of prompts and its mean of each metric.

        Args:
            values: Metric -> prompt id -> value. Prompts that are not in it belong to no
                group, nor do those without the field `by`.
            clusters: As of `mean`. A group that is one cluster has an interval over its prompts.
        """
        groups: dict[str, list[str]] = {}
        scored = next(iter(values.values()))
        for p in prompts:
            if self.by and self.by in p.meta and p.id in scored:
                groups.setdefault(str(p.meta[self.by]), []).append(p.id)
        return {
            group: {"prompts": len(ids)}
            | {metric: self.mean({i: of[i] for i in ids}, seed, clusters) for metric, of in values.items()}
            for group, ids in sorted(groups.items())
        }


@dataclass
class Collected:
    """What the metrics need of score rows; the texts are not kept.

    Attributes:
        rows: Metric -> prompt id -> number of each completion, None where it is missing.
        measures: Names of all numbers in the rows' `meta`.
    """

    rows: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    measures: set[str] = field(default_factory=set)


def collect(where: str, metrics: Iterable[str], scores: Iterable[Score]) -> Collected:
    """Read score rows; `where` begins the error message.

    Raises:
        StageError: A measure is neither a number nor missing.
    """
    found = Collected({metric: {} for metric in metrics})
    for score in scores:
        found.measures.update(k for k, v in score.meta.items() if isinstance(v, int | float))
        for metric, rows in found.rows.items():
            rows.setdefault(score.prompt_id, []).append(_number(where, metric, score))
    return found


def prompt_values(where: str, metric: str, rows: Mapping[str, list[float | None]]) -> Values:
    """A metric's value for each prompt, None where it is missing; `where` begins the error message.

    pass@K is missing where rows that could not be scored leave fewer than K.

    Raises:
        StageError: pass@K of rows that leave `passed` open, or no prompt has K completions.
    """
    from itercli.verifiers.passk import pass_at_k

    k = pass_k(metric)
    if k is None:
        known = {p: [n for n in numbers if n is not None] for p, numbers in rows.items()}
        return {p: sum(numbers) / len(numbers) if numbers else None for p, numbers in known.items()}
    values: Values = {}
    enough = any(len(numbers) >= k for numbers in rows.values())
    for prompt, numbers in rows.items():
        if None in numbers:
            raise StageError(
                f"{where}: {metric} needs a scorer that tells right from wrong; "
                f"here `passed` is open, for example of prompt {prompt}"
            )
        if enough and len(numbers) < k:
            values[prompt] = None
            continue
        try:
            values[prompt] = pass_at_k(len(numbers), sum(n == 1 for n in numbers), k)
        except ValueError as error:
            raise StageError(f"{where}: prompt {prompt}: {error}") from error
    return values


def pass_k(metric: str) -> int | None:
    """K of ``pass@K``; None for other metrics."""
    match = METRIC.fullmatch(metric)
    return int(match[1]) if match and match[1] else None


def is_measure(metric: str) -> bool:
    """Whether it names a number in the rows' `meta`."""
    return METRIC.fullmatch(metric) is None


def _number(where: str, metric: str, score: Score) -> float | None:
    if metric == "mean_score":
        value: Any = score.value
    else:
        value = score.meta.get(metric) if is_measure(metric) else score.passed
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise StageError(
            f"{where}: {metric!r} of prompt {score.prompt_id} is a {type(value).__name__}, not a number; "
            f"name a measure that is one"
        )
    return float(value) if math.isfinite(value) else None

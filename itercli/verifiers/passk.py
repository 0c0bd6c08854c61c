"""Unbiased pass@k and bootstrap intervals over problems.

pass@k is the estimator of Chen et al. 2021 (arXiv 2107.03374, section 2.1): the chance that
at least one of k completions, drawn without replacement from the n that were sampled, is
right. Intervals resample *problems*, or clusters of them, not completions: what varies between
benchmarks of this kind is which problems are in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from itercli.verifiers.intervals import bootstrap_mean, in_clusters


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased pass@k of one problem, 1 - C(n - c, k) / C(n, k), in product form.

    Args:
        n: Completions sampled.
        correct: How many of them are right.
        k: Completions one may try.

    Raises:
        ValueError: Fewer than k completions, or `correct` out of range.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} completions per problem, there are {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} completions")
    if n - correct < k:
        return 1.0
    return 1.0 - prod(1.0 - k / i for i in range(n - correct + 1, n + 1))


def mean_pass_at_k(results: Mapping[str, Sequence[bool]], k: int) -> float:
    """pass@k averaged over problems (problem id -> verdict of each completion)."""
    if not results:
        raise ValueError("no problems")
    return sum(pass_at_k(len(v), sum(v), k) for v in results.values()) / len(results)


@dataclass(frozen=True)
class PassAtK:
    """pass@k of a set of problems.

    Attributes:
        value: Mean over problems.
        low, high: Bootstrap interval over clusters of problems.
        problems: How many problems.
        groups: The same per group (its own `groups` empty), sorted by name.
    """

    k: int
    value: float
    low: float
    high: float
    problems: int
    groups: dict[str, PassAtK] = field(default_factory=dict)


def summarize(
    results: Mapping[str, Sequence[bool]],
    ks: Iterable[int] = (1, 5, 10),
    *,
    groups: Mapping[str, str] | None = None,
    clusters: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[PassAtK]:
    """pass@k for each k that every problem has enough completions for (VerilogEval's rule).

    Args:
        results: Problem id -> verdict of each completion.
        ks: Wanted k; those above the smallest number of completions are left out.
        groups: Problem id -> group (its template, its suite), for a breakdown.
        clusters: Problem id -> cluster that intervals resample; others are clusters of their own.

    Raises:
        ValueError: No problems, or one without completions.
    """
    if not results:
        raise ValueError("no problems")
    fewest = min(results, key=lambda problem: len(results[problem]))
    if not results[fewest]:
        raise ValueError(f"problem {fewest!r} has no completions")

    def over(problems: Sequence[str], k: int) -> PassAtK:
        values = [pass_at_k(len(results[p]), sum(results[p]), k) for p in problems]
        mean, low, high = bootstrap_mean(
            values,
            clusters=in_clusters(problems, clusters),
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
        return PassAtK(k, mean, low, high, len(problems))

    members: dict[str, list[str]] = {}
    for problem in results:
        if groups and problem in groups:
            members.setdefault(groups[problem], []).append(problem)
    table = []
    for k in sorted(set(ks)):
        if k <= len(results[fewest]):
            parts = {name: over(members[name], k) for name in sorted(members)}
            table.append(replace(over(list(results), k), groups=parts))
    return table

"""Bootstrap intervals: coverage by simulation, clusters, and the odd cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from itercli.verifiers.intervals import bootstrap_mean, enough, t_quantile
from itercli.verifiers.passk import summarize
from itercli.verifiers.win_rate import length_controlled

Sample = tuple[list[float], list[int]]


def alike(
    rng: np.random.Generator, sizes: Sequence[int], a: float, b: float, concentration: float, n: int
) -> Sample:
    """Success rates of tasks that resemble each other inside a cluster: Beta(a, b), then Beta around it."""
    values, clusters = [], []
    for cluster, size in enumerate(sizes):
        mean = rng.beta(a, b)
        ends = (max(mean * concentration, 1e-3), max((1 - mean) * concentration, 1e-3))
        values += [rng.binomial(n, p) / n for p in rng.beta(*ends, size)]
        clusters += [cluster] * size
    return values, clusters


def coverage(make: Callable[[], Sample], truth: float, *, clustered: bool = True) -> float:
    hits = 0
    for seed in range(400):
        values, clusters = make()
        of = clusters if clustered else None
        _, low, high = bootstrap_mean(values, clusters=of, resamples=400, seed=seed)
        hits += low <= truth <= high
    return hits / 400


def test_over_clusters_95_percent_covers_95_percent() -> None:
    """The standard error of a coverage of 400 is 0.011."""
    rng = np.random.default_rng(1)

    def many() -> Sample:
        return alike(rng, [3] * 54 + [4] * 9, 0.4, 0.6, 3, 4)

    def goals() -> Sample:
        return alike(rng, [3] * 12, 0.4, 1.6, 4, 2)

    def templates() -> Sample:
        return alike(rng, [17, 17, 16, 11, 10, 9, 9, 6, 5], 0.3, 2.7, 10, 4)

    assert coverage(many, 0.4) > 0.925
    assert coverage(goals, 0.2) > 0.915
    assert coverage(templates, 0.1) > 0.84  # nine, most of them at zero: the hardest here
    # As if prompts were independent:
    assert coverage(many, 0.4, clustered=False) < 0.85
    assert coverage(templates, 0.1, clustered=False) < 0.6


def test_independent_prompts_are_clusters_of_one() -> None:
    rng = np.random.default_rng(2)

    def few() -> Sample:
        return [rng.binomial(2, p) / 2 for p in rng.beta(0.15, 1.1, 21)], []

    assert coverage(few, 0.15 / 1.25, clustered=False) > 0.91
    values = rng.random(40).tolist()
    assert bootstrap_mean(values) == bootstrap_mean(values, clusters=list(range(40)))


def test_one_template_that_carries_all_makes_the_interval_wide() -> None:
    sizes = (17, 17, 16, 11, 10, 9, 9, 6, 5)
    clusters = [n for n, size in enumerate(sizes) for _ in range(size)]
    values = [0.52 if c == 0 else 0.04 if c < 4 else 0.0 for c in clusters]
    _, low, high = bootstrap_mean(values, clusters=clusters, resamples=4000)
    assert low < 0.03
    assert high > 0.25
    _, low, high = bootstrap_mean(values, resamples=4000)
    assert 0.06 < low < high < 0.16


def test_few_clusters_get_enough_resamples_for_ends_that_stay() -> None:
    assert [enough(1000, n) for n in (2, 9, 100, 400, 5000)] == [20_000, 20_000, 4000, 1000, 1000]
    values = [8.75 / 17] * 17 + [1.5 / 9] * 9 + [0.25 / 17] * 17 + [0.0] * 57
    clusters = [0] * 17 + [1] * 9 + [2] * 17 + [3 + n // 10 for n in range(57)]
    ends = [
        bootstrap_mean(values, clusters=clusters, resamples=enough(1000, 9), seed=seed)[2]
        for seed in range(4)
    ]
    assert max(ends) - min(ends) < 0.03


def test_an_interval_holds_its_value_and_the_data_s_range() -> None:
    rng = np.random.default_rng(3)
    for n in range(2, 14):
        for _ in range(20):
            values = (rng.random(n) < 0.15).astype(float)
            mean, low, high = bootstrap_mean(values, clusters=rng.integers(0, 4, n).tolist(), resamples=200)
            assert values.min() <= low <= mean <= high <= values.max()


def test_quantiles_of_student_s_t() -> None:
    from scipy.stats import t

    for df in (*range(1, 36), 60, 200, 10_000):
        for p in (0.6, 0.95, 0.975, 0.995):
            assert t_quantile(p, df) == pytest.approx(t.ppf(p, df), rel=1e-5)


def test_without_spread_or_with_one_cluster() -> None:
    assert bootstrap_mean([0.5]) == (0.5, 0.5, 0.5)
    assert bootstrap_mean([1.0] * 5, clusters=list("aabbc")) == (1, 1, 1)
    # Nothing is known of other clusters: over the prompts of this one.
    assert bootstrap_mean([0, 1, 1, 0], clusters=["a"] * 4) == bootstrap_mean([0, 1, 1, 0])
    with pytest.raises(ValueError, match="3 values, but 2 clusters"):
        bootstrap_mean([1, 2, 3], clusters=["a", "b"])
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean([])


def test_pass_at_k_and_the_length_controlled_rate_take_clusters() -> None:
    right = {f"p{i}": [i < 12] for i in range(24)}
    cluster = {p: str(i // 6) for i, p in enumerate(right)}
    (alone,), (together,) = summarize(right, (1,)), summarize(right, (1,), clusters=cluster)
    assert together.value == alone.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)

    rng = np.random.default_rng(0)
    wins = [float(v[0]) for v in right.values()]
    lengths = rng.normal(0, 100, 24).tolist()
    alone_lc = length_controlled(wins, lengths)
    in_clusters = length_controlled(wins, lengths, clusters=list(cluster.values()))
    assert in_clusters.value == alone_lc.value
    assert in_clusters.high - in_clusters.low > 1.5 * (alone_lc.high - alone_lc.low)

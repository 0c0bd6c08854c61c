"""Two sides measured on the same prompts: difference, interval, test.

The interval is the paired bootstrap over prompts: prompts, or clusters of them, are resampled,
each with both of its values. The test is McNemar's (1947), exact, where every prompt is either
right or wrong and stands for itself; else the sign-flip randomisation test of the mean difference
(Fisher's), which for right and wrong is McNemar's. Prompts of a cluster are flipped together.
All ask: could the two sides have been swapped at random?
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from itercli.verifiers.intervals import bootstrap_mean, enough, in_clusters

EQUAL = 1e-12
EXACT_UP_TO = 12  # differences that are not 0: 4096 ways to give them signs
FLIPS = 9999
CELLS = 2_000_000  # signs drawn at a time


@dataclass(frozen=True, slots=True)
class Verdicts:
    """McNemar's test: prompts that only the one or only the other side got right, and p."""

    up: int
    down: int
    p: float


@dataclass(frozen=True, slots=True)
class Paired:
    """What the prompts of both sides say.

    Attributes:
        prompts: How many prompts were paired.
        clusters: Of how many clusters; None where every prompt stands for itself.
        value, low, high: Mean difference, and its 95 % interval.
        up, down, equal: Prompts whose value is higher than the baseline's, lower, the same.
        test: mcnemar or sign_flip.
        p: Two-sided.
    """

    prompts: int
    value: float
    low: float
    high: float
    up: int
    down: int
    equal: int
    test: str
    p: float
    clusters: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as in `itercli.compare/1`."""
        flat = asdict(self)
        return {"difference": {k: flat.pop(k) for k in ("value", "low", "high")}, **flat}


def paired(
    ours: Mapping[str, float], theirs: Mapping[str, float], clusters: Mapping[str, str] | None = None
) -> Paired:
    """Compare two sides on the prompts that both have.

    Args:
        ours, theirs: Prompt id -> value; `theirs` is the baseline.
        clusters: Prompt id -> cluster; a prompt that is not in it is one of its own.

    Raises:
        ValueError: No prompt in common.
    """
    shared = sorted(ours.keys() & theirs.keys())
    differences = [ours[p] - theirs[p] for p in shared]
    groups = in_clusters(shared, clusters)
    number = len(set(groups))
    mean, low, high = bootstrap_mean(differences, clusters=groups, resamples=enough(1000, number))
    up, down = sum(d > EQUAL for d in differences), sum(d < -EQUAL for d in differences)
    binary = all(side[p] in (0, 1) for side in (ours, theirs) for p in shared)
    equal = len(shared) - up - down
    if 1 < number < len(shared):
        sums: dict[object, float] = defaultdict(float)
        for group, d in zip(groups, differences, strict=True):
            sums[group] += d
        return Paired(
            len(shared), mean, low, high, up, down, equal, "sign_flip", sign_flip(list(sums.values())), number
        )
    p = mcnemar(up, down) if binary else sign_flip(differences)
    test = "mcnemar" if binary else "sign_flip"
    return Paired(
        len(shared), mean, low, high, up, down, equal, test, p, number if number < len(shared) else None
    )


def verdicts(ours: Mapping[str, bool], theirs: Mapping[str, bool]) -> Verdicts:
    """McNemar's test on the prompts that both sides have a verdict for."""
    shared = ours.keys() & theirs.keys()
    up = sum(ours[p] and not theirs[p] for p in shared)
    down = sum(theirs[p] and not ours[p] for p in shared)
    return Verdicts(up, down, mcnemar(up, down))


def mcnemar(up: int, down: int) -> float:
    """McNemar's exact two-sided p: a fair coin fell `up` times one way and `down` times the other."""
    flips = up + down
    tail = sum(math.comb(flips, k) for k in range(min(up, down) + 1))
    return min(1.0, 2 * tail / 2**flips)


def sign_flip(differences: Sequence[float], *, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of a mean difference when each difference could as well have had the other sign.

    All ways are counted where few differences are not 0; else `flips` random ones, with the
    observed one among them, so that p is never 0 (Phipson & Smyth 2010).

    Args:
        differences: One per prompt, shape [prompts]; or the sum of each cluster.
    """
    import numpy as np

    known = np.array([d for d in differences if abs(d) > EQUAL], dtype=np.float64)
    if not known.size:
        return 1.0
    reached = abs(known.sum()) - 1e-9 * np.abs(known).sum()  # sums in another order round otherwise
    if known.size <= EXACT_UP_TO:
        ways = np.arange(2**known.size)[:, None] >> np.arange(known.size) & 1
        return float((np.abs((1 - 2 * ways) @ known) >= reached).mean())
    rng = np.random.default_rng(seed)
    hits, todo = 0, flips
    while todo:
        now = min(todo, max(1, CELLS // known.size))
        signs = 1 - 2 * rng.integers(0, 2, size=(now, known.size), dtype=np.int8)
        hits += int((np.abs(signs @ known) >= reached).sum())
        todo -= now
    return (hits + 1) / (flips + 1)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's (1979) p values: what is below 0.05 among them holds for all tests together."""
    adjusted = [0.0] * len(values)
    worst = 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        worst = max(worst, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = worst
    return adjusted

"""Win rates of paired completions, plain and controlled for length.

A *preference* is the share of comparisons that the first side wins, ties counted half. With
several completions on both sides it is the mean over all their pairs, so a prompt has one
preference however many completions it has, and prompts count alike.

The length-controlled rate is "LC (minimal)": the two-parameter model that AlpacaEval 2 names
`length_controlled_minimal` (Dubois et al. 2024, arXiv 2404.04475), fitted by maximum likelihood
to the preferences at hand. AlpacaEval's own rate adds terms for each instruction and model and a
penalty towards two reference models, so the numbers here can't be set beside its leaderboard.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from itercli.verifiers.intervals import bca, cluster_codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

RIDGE = 1e-3  # weight of (a² + b²) / 2 beside the mean loss, where the likelihood has no maximum
Fit = Literal["ml", "ridge", "no length effect"]


def preference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Share of all pairs (one of `ours`, one of `theirs`) in which ours is higher, ties half.

    Raises:
        ValueError: A side has no completion.
    """
    if not ours or not theirs:
        raise ValueError("a preference needs a completion on both sides")
    wins = sum((x > y) + (x == y) / 2 for x in ours for y in theirs)
    return wins / (len(ours) * len(theirs))


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """The win rate at equal length, σ(a) of p(win) = σ(a + b·tanh(Δ / sd(Δ))).

    Attributes:
        value: σ(a).
        low, high: Bootstrap interval over clusters of prompts; all of the fit is done anew.
        effect: b; positive where the longer answer tends to win.
        fit: "ml"; "ridge" where some length splits wins from losses completely (then the
            likelihood has no maximum, and a small ridge penalty picks a finite fit); "no
            length effect" where all differences are the same, so that b can't be told from a:
            then σ(a) is the plain win rate.
        ridge_resamples: Share of the bootstrap resamples that needed the ridge penalty.
    """

    value: float
    low: float
    high: float
    effect: float
    fit: Fit
    ridge_resamples: float


def length_controlled(
    preferences: Sequence[float],
    differences: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> LengthControlled:
    """Length-controlled win rate with its bootstrap interval.

    Args:
        preferences: [prompts] in 0 to 1.
        differences: [prompts] own length minus the other side's, in characters.
        clusters: [prompts] as of `intervals.bootstrap_mean`.

    Raises:
        ValueError: No prompts.
    """
    import numpy as np

    y, delta = np.asarray(preferences, dtype=np.float64), np.asarray(differences, dtype=np.float64)
    if y.size == 0:
        raise ValueError("no prompts")
    a, b, flat, ridge = fit_lengths(y[None], delta[None])
    value = float(_sigmoid(a)[0])
    codes = cluster_codes(y.size, clusters)
    n = int(codes.max()) + 1
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    times = np.stack([np.bincount(row, minlength=n) for row in drawn])
    again, _, _, ridges = fit_lengths(y[None], delta[None], times[:, codes])
    low = high = value
    if n > 1:
        without, *_ = fit_lengths(y[None], delta[None], (1 - np.eye(n))[:, codes])
        low, high = bca(value, _sigmoid(again), _sigmoid(without), confidence)
    fit: Fit = "no length effect" if flat[0] else "ridge" if ridge[0] else "ml"
    return LengthControlled(value, low, high, float(b[0]), fit, float(ridges.mean()))


def fit_lengths(
    y: NDArray, delta: NDArray, times: NDArray | None = None
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Fit p = σ(a + b·x), x = tanh(Δ / sd(Δ)), to each row of soft labels.

    Damped Newton steps (Sun and Tran-Dinh 2019, arXiv 1703.04599): they converge from
    anywhere and are plain Newton steps near the end.

    Args:
        y: [rows or 1, prompts] preferences.
        delta: [rows or 1, prompts] length differences; sd is the population's, about the mean.
        times: [rows, prompts] how often each prompt counts; None: once.

    Returns:
        (a, b, flat, ridge), each [rows]: the fit, whether x is constant (then b is 0 and σ(a) the
        mean preference), and whether the ridge penalty was needed.
    """
    import numpy as np

    times = np.ones_like(y) if times is None else np.asarray(times, dtype=np.float64)
    y, delta = np.broadcast_to(y, times.shape), np.broadcast_to(delta, times.shape)
    total, counted = times.sum(axis=1), times > 0

    def average(values: NDArray) -> NDArray:
        averaged: NDArray = (times * values).sum(axis=1) / total
        return averaged

    sd = np.sqrt(average((delta - average(delta)[:, None]) ** 2))[:, None]
    x = np.tanh(delta / np.where(sd > 0, sd, 1.0))
    flat = _highest(x, counted) + _highest(-x, counted) < 1e-9
    x[flat] = 0.0
    ridge = ~flat & _separable(x, y, counted)
    penalty = RIDGE * ridge
    mean = average(y)
    with np.errstate(divide="ignore"):  # all won: σ(inf) is 1, as it should be
        known = np.log(mean) - np.log1p(-mean)
    a, b = np.zeros(len(y)), np.zeros(len(y))
    for _ in range(200):
        p = _sigmoid(a[:, None] + b[:, None] * x)
        w = p * (1 - p)
        ga, gb = average(p - y) + penalty * a, average((p - y) * x) + penalty * b
        haa, hab, hbb = average(w) + penalty, average(w * x), average(w * x * x) + penalty
        determinant = np.where(flat, 1.0, haa * hbb - hab**2)
        da, db = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        size = np.sqrt(2 * (da**2 + db**2)) + 1e-300
        damping = np.log1p(size) / size
        da, db = np.where(flat, 0.0, damping * da), np.where(flat, 0.0, damping * db)
        a, b = a - da, b - db
        if max(np.abs(da).max(), np.abs(db).max()) < 1e-10:
            break
    return np.where(flat, known, a), b, flat, ridge


def _highest(x: NDArray, among: NDArray) -> NDArray:
    """[rows] maximum over the prompts that are among them."""
    import numpy as np

    highest: NDArray = np.where(among, x, -np.inf).max(axis=1)
    return highest


def _separable(x: NDArray, y: NDArray, counted: NDArray) -> NDArray:
    """Rows whose likelihood has no maximum: some x has all wins on one side, all losses on the other.

    A preference strictly between 0 and 1 is both a win and a loss.
    """

    def ends(chosen: NDArray) -> tuple[NDArray, NDArray]:
        return -_highest(-x, chosen), _highest(x, chosen)

    (low_won, high_won), (low_lost, high_lost) = ends(counted & (y > 0)), ends(counted & (y < 1))
    return (high_lost <= low_won) | (high_won <= low_lost)


def _sigmoid(z: NDArray) -> NDArray:
    import numpy as np

    return np.exp(-np.logaddexp(0.0, -z))

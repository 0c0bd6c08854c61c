"""Win rates: ties, pairs of completions, and the length-controlled rate in cases solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from itercli.verifiers.win_rate import RIDGE, fit_lengths, length_controlled, preference


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_preference_is_over_all_pairs_with_ties_half() -> None:
    assert preference([1.0], [1.0]) == 0.5
    assert preference([2.0], [1.0]) == 1.0
    assert preference([1.0, 3.0], [2.0, 3.0]) == (0 + 0 + 1 + 0.5) / 4
    assert preference([0.5], [0.1, 0.5, 0.9]) == (1 + 0.5 + 0) / 3
    with pytest.raises(ValueError, match="both sides"):
        preference([], [1.0])


@pytest.mark.parametrize("size", [1.0, 250.0])
def test_differences_of_one_size_and_both_signs_are_solved_by_hand(size: float) -> None:
    # Two values of x, two parameters: the fit is exact at both, σ(a ± b·t) = 0.9 and 0.4.
    longer, shorter = [0.8, 1.0, 0.9], [0.3, 0.5, 0.4]
    found = length_controlled(longer + shorter, [size] * 3 + [-size] * 3)
    assert found.fit == "ml"
    assert found.value == pytest.approx(sigmoid((logit(0.9) + logit(0.4)) / 2), abs=1e-9)
    assert found.effect == pytest.approx((logit(0.9) - logit(0.4)) / 2 / math.tanh(1), abs=1e-8)
    # Twice as many long ones: sd is not the size any more, but the fit at ±x is the same.
    skewed = length_controlled(longer * 2 + shorter, [size] * 6 + [-size] * 3)
    x = [math.tanh(s / np.std([1] * 6 + [-1] * 3)) for s in (1, -1)]
    assert skewed.effect == pytest.approx((logit(0.9) - logit(0.4)) / (x[0] - x[1]), abs=1e-8)
    assert skewed.value == pytest.approx(found.value, abs=1e-9)
    assert found.value < sum(longer * 2 + shorter) / 9  # the plain rate flatters the long


def test_what_length_alone_explains_is_no_win() -> None:
    found = length_controlled([0.9, 0.7, 0.5, 0.3, 0.1], [200, 100, 0, -100, -200])
    assert found.value == pytest.approx(0.5, abs=1e-12)
    assert found.effect > 1
    swapped = length_controlled([0.8, 0.9, 0.2], [10, -30, 5])
    mirrored = length_controlled([0.2, 0.1, 0.8], [-10, 30, -5])
    assert swapped.value + mirrored.value == pytest.approx(1, abs=1e-12)
    assert swapped.effect == pytest.approx(mirrored.effect, abs=1e-9)


@pytest.mark.parametrize("length", [0.0, 40.0])
def test_equal_differences_leave_the_plain_rate(length: float) -> None:
    found = length_controlled([1, 0, 0.5, 1], [length] * 4)
    assert (found.value, found.effect, found.fit) == (pytest.approx(0.625), 0.0, "no length effect")
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("won", [0.0, 0.25, 1.0])
def test_one_prompt_has_an_interval_of_no_width(won: float) -> None:
    found = length_controlled([won], [17.0])
    assert (found.value, found.low, found.high) == (
        pytest.approx(won),
        pytest.approx(won),
        pytest.approx(won),
    )
    with pytest.raises(ValueError, match="no prompts"):
        length_controlled([], [])


def test_wins_that_a_length_separates_need_the_ridge_and_say_so() -> None:
    longer_wins = length_controlled([1, 1, 0, 0], [9, 5, -5, -9])
    assert (longer_wins.fit, longer_wins.value) == ("ridge", pytest.approx(0.5))
    assert longer_wins.effect > 3
    all_won = length_controlled([1, 1, 1], [3, -8, 40])
    assert all_won.fit == "ridge"
    assert 0.99 < all_won.value < 1
    assert all_won.ridge_resamples > 0.8
    # One soft preference at the threshold does not keep the fit finite, two do.
    assert length_controlled([1, 0.5, 0], [4, 0, -4]).fit == "ridge"
    assert length_controlled([1, 0.5, 0.5, 0], [4, 1, -1, -4]).fit == "ml"
    assert length_controlled([1, 0, 1, 0], [4, 1, -1, -4]).fit == "ml"


def test_fits_are_minima_of_the_loss() -> None:
    rng = np.random.default_rng(5)
    y, delta = rng.integers(0, 5, size=(300, 9)) / 4, rng.normal(size=(300, 9)) * 30
    y[:100] = np.round(y[:100])  # plain wins and losses: some rows are separable
    y[:50, 1:] = y[:50, :1]
    a, b, flat, ridge = fit_lengths(y, delta)
    assert 20 < ridge[:100].sum() < 100
    assert not flat.any()
    x = np.tanh(delta / delta.std(axis=1, keepdims=True))
    gap = 1 / (1 + np.exp(-(a[:, None] + b[:, None] * x))) - y
    assert np.abs(gap.mean(axis=1) + ridge * RIDGE * a).max() < 1e-8
    assert np.abs((gap * x).mean(axis=1) + ridge * RIDGE * b).max() < 1e-8


def test_the_interval_covers_the_true_rate_at_equal_length() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(40):
        delta = rng.normal(60, 80, size=300)
        wins = rng.random(300) < 1 / (1 + np.exp(-(-0.4 + 1.5 * np.tanh(delta / 80))))
        found = length_controlled(wins.tolist(), delta.tolist(), resamples=200)
        covered += found.low < sigmoid(-0.4) < found.high
        assert found.value < wins.mean()
        assert 0.05 < found.high - found.low < 0.25
    assert covered >= 34

"""Formulas of uncertainty: BALD, votes, sampling weights, alpha."""

from __future__ import annotations

import math
import random

import pytest

from itercli.preference.uncertainty import (
    LN2,
    alphas,
    bald,
    draw,
    easy_weights,
    hard_weights,
    mean_probability,
    vote,
)  # fmt: skip


def passes(*chosen: float) -> list[tuple[float, float]]:
    return [(p, 1 - p) for p in chosen]


def test_identical_passes_have_no_information() -> None:
    rng = random.Random(0)
    for _ in range(300):
        assert bald(passes(*[rng.random()] * rng.randint(1, 20))) == 0.0


def test_bald_lies_between_0_and_ln_2() -> None:
    rng = random.Random(1)
    for _ in range(300):
        found = bald(passes(*(rng.random() ** rng.choice([0.1, 1, 9]) for _ in range(10))))
        assert 0 < found <= LN2
    assert bald(passes(1, 0)) == pytest.approx(LN2)
    assert bald(passes(1, 0)) <= LN2


def test_bald_by_hand() -> None:
    # Mean 0.7: H = 0.610864; passes 0.9 and 0.5: H = 0.325083 and 0.693147.
    assert bald(passes(0.9, 0.5)) == pytest.approx(0.610864 - (0.325083 + 0.693147) / 2, abs=2e-6)
    assert bald(passes(0.5, 0.9)) == bald(passes(0.1, 0.5)) == bald(passes(0.9, 0.5))
    with pytest.raises(ValueError, match="no passes"):
        bald([])


def test_votes_and_means() -> None:
    assert vote(passes(0.9, 0.6, 0.2, 0.5)) == (2 + 0.5) / 4
    assert mean_probability(passes(0.9, 0.6, 0.2, 0.5)) == pytest.approx(0.55)


def test_weights_of_easy_and_hard_pairs() -> None:
    assert easy_weights([0.0, 0.5]) == pytest.approx([2 / 3, 1 / 3])
    assert easy_weights([0.0, 0.5], mu=2) == pytest.approx([4 / 5, 1 / 5])
    assert hard_weights([0.1, 0.3]) == pytest.approx([1 / 4, 3 / 4])
    assert hard_weights([0.0, 0.0]) == [0.0, 0.0]
    assert easy_weights([]) == []


def test_drawing_follows_the_weights_without_replacement() -> None:
    weights = [0.7, 0.0, 0.2, 0.1]
    first = [draw(weights, 1, random.Random(seed))[0] for seed in range(2000)]
    assert first.count(0) / 2000 == pytest.approx(0.7, abs=0.04)
    assert first.count(2) / 2000 == pytest.approx(0.2, abs=0.04)
    assert sorted(draw(weights, 9, random.Random(0))) == [0, 2, 3]  # never twice, never weight 0
    assert draw(weights, 2, random.Random(5)) == draw(weights, 2, random.Random(5))


def test_alpha_of_each_mode_by_hand() -> None:
    balds = [0.0, LN2 / 2, LN2]
    assert alphas(balds, "none") == [0, 0, 0]
    assert alphas(balds, "bounded") == pytest.approx([0, 0.15, 0.3])
    recip = alphas(balds, "recip")
    assert recip[0] == pytest.approx(1 / 11)
    assert recip[2] == pytest.approx(1 / (1 + 10 * (1 - LN2)))
    assert alphas([0.3] * 4, "paper") == pytest.approx([0.8] * 4)


def test_alpha_keeps_the_labels_in_the_default_mode_and_reverses_them_in_the_papers() -> None:
    rng = random.Random(2)
    balds = [rng.random() * LN2 for _ in range(500)]
    assert all(0 <= a < 0.5 for a in alphas(balds, "bounded", alpha_max=math.nextafter(0.5, 0)))
    assert all(a >= 0.5 for a in alphas(balds, "paper"))
    assert all(a < 0.5 for a in alphas([*balds, LN2], "recip", mu=3.26))
    with pytest.raises(ValueError, match="reversed"):
        alphas(balds, "recip", mu=3.25)
    for wrong in (0.5, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="reversed"):
            alphas(balds, "bounded", alpha_max=wrong)

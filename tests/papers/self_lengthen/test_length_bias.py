"""Short texts are thinned out, by rank and seed."""

from __future__ import annotations

import random

import pytest

from itercli.papers.self_lengthen.length_bias import LengthBias, keep_probabilities
from tests.papers.self_lengthen.bench import Bench, text_of


def test_length_bias_keeps_three_fifths_and_never_the_shortest_fifth() -> None:
    n = 5000
    chances = keep_probabilities(range(n))
    assert 0.594 < sum(chances) / n < 0.5955
    assert chances == sorted(chances)
    assert chances.count(0) / n == pytest.approx(0.206, abs=5e-4)
    assert chances[n // 2] == 0.75
    assert chances[-1] == pytest.approx(1, abs=1e-9)


def test_length_bias_goes_by_rank_alone() -> None:
    rng = random.Random(0)
    for n in (1, 2, 3, 10, 57):
        lengths = rng.sample(range(10**6), n)
        by_length = dict(zip(sorted(lengths), keep_probabilities(range(n)), strict=True))
        assert keep_probabilities(lengths) == [by_length[length] for length in lengths]
        assert keep_probabilities([7] * n) == keep_probabilities(range(n))  # ties: in the order given


def test_length_bias_draws_by_seed(bench: Bench) -> None:
    rows = [text_of("x" * (n * 7919 % 2000 + 1), n) for n in range(2000)]
    kept = bench.run(LengthBias(of="respond"), of=rows)
    assert bench.counts == {"dropped": 2000 - len(kept)}
    assert 0.56 < len(kept) / 2000 < 0.63
    assert min(len(t.completion) for t in kept) > 400
    assert kept == [t for t in rows if t in kept]
    assert bench.run(LengthBias(of="respond"), of=rows) == kept
    other = bench.run(LengthBias(of="respond"), seed=6, of=rows)
    assert {t.prompt_id for t in other} != {t.prompt_id for t in kept}
    # A text's luck does not depend on where it stands.
    assert set(map(repr, bench.run(LengthBias(of="respond"), of=rows[::-1]))) == set(map(repr, kept))


def test_length_bias_keeps_the_longest_of_a_handful(bench: Bench) -> None:
    rows = [text_of("x" * n, n) for n in (3, 9, 5)]
    assert bench.run(LengthBias(of="respond"), of=rows[:1]) == rows[:1]
    assert bench.run(LengthBias(of="respond", at_least=0), of=rows[:1]) == []
    drawn = bench.run(LengthBias(of="respond", at_least=0), of=rows)
    two = bench.run(LengthBias(of="respond", at_least=2), of=rows)
    assert len(two) == max(2, len(drawn))
    assert rows[1] in two
    assert bench.run(LengthBias(of="respond"), of=[]) == []

"""Pairing rules, by hand."""

from __future__ import annotations

import math
import random

import pytest

from itercli.preference.rules import Rule, paired, places, ranked


def pairs(rule: Rule, *rewards: float, **options: float) -> tuple[list[str], dict[str, int]]:
    """Pairs as two letters, chosen first; answer "a" has the first reward."""
    answers = [(chr(97 + i), r, "policy@0") for i, r in enumerate(rewards)]
    found, dropped = paired(rule, ranked(answers), random.Random(0), **options)
    return [c.text + r.text for c, r in found], {k: v for k, v in dropped.items() if v}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("best_worst", ["bc"]),
        ("best_second", ["bd"]),
        ("all_ordered", ["bd", "ba", "bc", "da", "dc", "ac"]),
        ("top_half_vs_bottom_half", ["ba", "bc", "da", "dc"]),
    ],
)
def test_rules_on_four_answers(rule: Rule, expected: list[str]) -> None:
    assert pairs(rule, 0.2, 0.9, 0.1, 0.5) == (expected, {})


def test_best_against_any_of_the_rest() -> None:
    drawn = [places("best_random", 4, random.Random(seed))[0] for seed in range(200)]
    assert set(drawn) == {(0, 1), (0, 2), (0, 3)}
    assert max(map(drawn.count, set(drawn))) < 100


def test_six_answers_leave_nine_pairs_and_a_middle_one_is_in_neither_half() -> None:
    assert len(pairs("top_half_vs_bottom_half", *range(6))[0]) == 9
    assert len(pairs("all_ordered", *range(6))[0]) == 15
    assert pairs("top_half_vs_bottom_half", 1, 2, 3)[0] == ["ca"]
    assert len(pairs("top_half_vs_bottom_half", 1, 2, 3, 4, 5)[0]) == 4


def test_ties_and_small_margins_are_counted_not_lost() -> None:
    assert pairs("all_ordered", 1, 1, 0.5, 0) == (["ac", "ad", "bc", "bd", "cd"], {"tie": 1})
    assert pairs("all_ordered", 1, 1, 0.5, 0, min_margin=0.75) == (["ad", "bd"], {"tie": 1, "margin": 3})
    assert pairs("all_ordered", 1, 0.5, min_margin=0.5) == (["ab"], {})  # the smallest margin is enough
    assert pairs("best_worst", 2, 2, 2) == ([], {"tie": 1})


@pytest.mark.parametrize("rule", ["best_worst", "best_random", "best_second", "all_ordered"])
def test_one_answer_or_none_makes_no_pair(rule: Rule) -> None:
    assert pairs(rule) == pairs(rule, 1.0) == ([], {})


def test_a_text_counts_once_and_long_ones_pay() -> None:
    answers = [("same", 1.0, "p@0"), ("other", 0.5, "p@0"), ("same", 1.0, "reference"), ("nan", math.nan, "")]
    assert [(c.text, c.source) for c in ranked(answers)] == [("same", "p@0"), ("other", "p@0")]
    long, short = ranked([("x" * 100, 1.0, ""), ("x" * 10, 0.95, "")], 0.0)
    assert (len(long.text), len(short.text)) == (100, 10)
    first, second = ranked([("x" * 100, 1.0, ""), ("x" * 10, 0.95, "")], 0.001)
    assert (first.text, first.reward, first.score) == ("x" * 10, pytest.approx(0.94), 0.95)
    assert second.reward == pytest.approx(0.9)

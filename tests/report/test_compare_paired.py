"""Tests on pairs, against values worked out by hand."""

from __future__ import annotations

import pytest

from itercli.report.compare_paired import holm, mcnemar, paired, sign_flip, verdicts


def test_mcnemar_is_the_binomial_of_the_prompts_that_changed() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 0) == 2 / 2**5
    assert mcnemar(1, 5) == mcnemar(5, 1) == 2 * (1 + 6) / 2**6
    assert mcnemar(3, 3) == 1
    # Agresti, Categorical Data Analysis: 86 against 150 who changed their mind, z = 4.17
    assert mcnemar(86, 150) == pytest.approx(3.7e-5, rel=0.02)


def test_verdicts_count_the_shared_prompts() -> None:
    found = verdicts({"a": True, "b": True, "c": False, "mine": True}, {"a": True, "b": False, "c": True})
    assert (found.up, found.down, found.p) == (1, 1, 1)


def test_sign_flip_counts_all_ways_of_few_differences() -> None:
    # |sum| >= 6 of 1, 2, 3 with signs: +++ and ---, 2 of 8
    assert sign_flip([1, 2, 3, 0, 0]) == 2 / 8
    # |sum| >= 4: also -++ (4) and +--, 4 of 8
    assert sign_flip([-1, 2, 3]) == 4 / 8
    assert sign_flip([0.0, 0.0]) == 1


def test_sign_flip_of_right_and_wrong_is_mcnemar() -> None:
    for up, down in ((5, 0), (4, 1), (7, 5)):
        assert sign_flip([1] * up + [-1] * down + [0] * 9) == pytest.approx(mcnemar(up, down))
    assert sign_flip([1] * 30 + [-1] * 15) == pytest.approx(mcnemar(30, 15), abs=0.006)  # drawn at random


def test_sign_flip_of_many_prompts_stays_small_in_memory_and_above_zero() -> None:
    assert sign_flip([0.5] * 3000, flips=999) == 1 / 1000


def test_paired_bootstrap_resamples_differences() -> None:
    # Prompts differ a lot, the sides by 0.1 everywhere: unpaired intervals would overlap.
    theirs = {f"p{i}": i / 10 for i in range(20)}
    same = paired({p: v + 0.1 for p, v in theirs.items()}, theirs)
    assert (same.value, same.low, same.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (same.prompts, same.up, same.down, same.equal, same.test) == (20, 20, 0, 0, "sign_flip")
    # Two prompts, differences 0 and 1: the resampled mean is 0, 0.5 or 1 with chances 1/4, 1/2, 1/4.
    two = paired({"a": 0.5, "b": 1.5, "mine": 9.0}, {"a": 0.5, "b": 0.5, "theirs": 9.0})
    assert (two.prompts, two.value, two.low, two.high) == (2, 0.5, 0, 1)
    assert (two.up, two.down, two.equal, two.p) == (1, 0, 1, 1)


def test_paired_takes_mcnemar_for_right_and_wrong() -> None:
    ours = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0, "e": 1.0}
    theirs = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0, "e": 1.0}
    found = paired(ours, theirs)
    assert (found.test, found.up, found.down, found.equal) == ("mcnemar", 3, 1, 1)
    assert found.p == 2 * (1 + 4) / 2**4
    assert found.value == pytest.approx(0.4)


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        paired({"a": 1.0}, {"b": 1.0})


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []

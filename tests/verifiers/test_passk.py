"""pass@k against its definition."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itercli.verifiers.passk import mean_pass_at_k, pass_at_k, summarize


@given(st.integers(1, 9), st.data())
def test_product_form_counts_subsets(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(combinations(range(n), k))
    wins = sum(any(i < correct for i in draw) for draw in draws)
    assert pass_at_k(n, correct, k) == pytest.approx(wins / len(draws))


def test_example_of_the_authors() -> None:
    results = {"gatesv": [True, False], "vector4": [True, False], "zero": [True, False]}
    assert mean_pass_at_k(results, 1) == 0.5
    assert mean_pass_at_k(results, 2) == 1.0


def test_summary() -> None:
    results = {f"p{i}": [i % 2 == 0] * 5 + [False] * 5 for i in range(20)} | {"short": [True] * 5}
    groups = {f"p{i}": "even" if i % 2 == 0 else "odd" for i in range(20)}
    table = summarize(results, (1, 5, 10), groups=groups)
    assert [row.k for row in table] == [1, 5]  # "short" has no ten completions
    first = table[0]
    assert first.value == pytest.approx((10 * 0.5 + 1) / 21)
    assert first.low < first.value < first.high
    assert first.problems == 21
    assert {name: part.value for name, part in first.groups.items()} == {"even": 0.5, "odd": 0.0}
    assert summarize(results, (1,), groups=groups)[0] == first


def test_errors() -> None:
    with pytest.raises(ValueError, match="no problems"):
        summarize({})
    with pytest.raises(ValueError, match="'a' has no completions"):
        summarize({"a": []})
    with pytest.raises(ValueError, match="needs at least 3"):
        pass_at_k(2, 1, 3)

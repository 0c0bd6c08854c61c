"""Judges of pairs: both orders, ties, what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.sampling.base import Request
from itercli.stages.base import StageError
from itercli.stages.judge_pairs import JudgePairs
from tests.stages.judging import Answer, Bench, Scripted, text


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[Answer], Bench]:
    return lambda answer: Bench(tmp_path, answer)


def pairs(**options: Any) -> JudgePairs:
    options = {"of": "evaluate.sample", "against": "start", "rubric": "longgen"} | options
    return JudgePairs(role="judge", sampler=Scripted(), **options)


def slots(request: Request) -> tuple[str, str]:
    """The texts in the slots `first` and `second` of a question."""
    asked = request.messages[0].content
    first, second = (re.search(rf"\[BEGIN {s} (\w+)\]\n(.*?)\n\[END {s} \1\]", asked, re.DOTALL) for s in
                     ("first", "second"))  # fmt: skip
    assert first is not None
    assert second is not None
    return first[2], second[2]


def better(request: Request) -> str:
    """Likes longer texts; where `unsure` is in one, whatever comes first; ties equal lengths."""
    first, second = slots(request)
    if "unsure" in first + second:
        verdict = "first"
    else:
        order = len(first) - len(second)
        verdict = "first" if order > 0 else "second" if order < 0 else "tie"
    return json.dumps({"analysis": f"{first} or {second}", "better": verdict})


def test_a_win_counts_only_in_both_orders(bench: Callable[[Answer], Bench]) -> None:
    mine = ["longer", "ab", "unsure", "same", "equal", "alone"]
    theirs = ["short", "abc", "other", "diff", "equal"]
    b = bench(better)
    rows = b.run(
        pairs(),
        of=[text(n, t) for n, t in enumerate(mine)],
        against=[text(n, t, policy="policy@0") for n, t in enumerate(theirs)],
    )
    assert [(r.outcome, r.value) for r in rows] == [
        ("win", 1), ("loss", 0), ("tie", 0.5), ("tie", 0.5), ("tie", 0.5)
    ]  # fmt: skip
    assert [r.meta["verdicts"] for r in rows] == [
        ["first", "second"], ["second", "first"], ["first", "first"], ["tie", "tie"], []
    ]  # fmt: skip
    assert rows[0].message == "order 1: longer or short\n\norder 2: short or longer"
    assert (rows[0].policy, rows[0].meta["against"]) == ("policy@1", "policy@0")
    assert (b.counts["calls: compare.1"], b.counts["calls: compare.2"]) == (4, 4)  # equal texts: no call
    assert b.counts["unpaired"] == 1
    assert {v: b.counts[f"verdict: {v}"] for v in ("first", "second", "tie")} == {
        "first": 4, "second": 2, "tie": 2
    }  # fmt: skip


def test_a_pair_without_a_verdict_in_one_order_is_missing(bench: Callable[[Answer], Bench]) -> None:
    def answer(request: Request) -> str:
        return '{"better": "both"}' if slots(request) == ("theirs", "mine") else better(request)

    b = bench(answer)
    (row,) = b.run(
        pairs(tries=2), of=[text(0, "mine"), text(1, "longer")], against=[text(0, "theirs"), text(1, "x")]
    )
    assert row.prompt_id == "p1"
    assert json.loads(b.missing.read_text()) == [{"prompt_id": "p0", "index": 0, "reason": "unparsed"}]
    assert b.counts["rejected: not a verdict"] == 2


def test_nothing_to_compare_is_an_error(bench: Callable[[Answer], Bench]) -> None:
    b = bench(better)
    with pytest.raises(StageError, match="have no prompt and index in common"):
        b.run(pairs(), of=[text(0, "a")], against=[text(1, "b")])
    with pytest.raises(StageError, match=r"previous.sample has no texts; .* under `before:`"):
        b.run(pairs(against="previous.sample"), of=[text(0, "a")], against=[])

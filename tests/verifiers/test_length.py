"""Length limits and the two benchmarks' length scores."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from itercli.verifiers.length import LengthLimit, longbench_score, longgen_score, parse_longgen


@pytest.fixture
def golden(shared_data) -> dict[str, list[dict]]:  # type: ignore[no-untyped-def, type-arg]
    return json.loads((shared_data("self_lengthen") / "golden_cases.json").read_text())


def test_longgen_golden_cases(golden) -> None:  # type: ignore[no-untyped-def]
    assert len(golden["longen_length_score"]) == 56
    for case in golden["longen_length_score"]:
        limit = parse_longgen(case["constraint"], case["type"])
        assert limit.interval() == pytest.approx((case["lo"], case["hi"])), case
        assert longgen_score(case["words"], limit) == pytest.approx(case["score"], abs=1e-6), case


def test_longbench_golden_cases(golden) -> None:  # type: ignore[no-untyped-def]
    assert len(golden["longwriter_S_l"]) == 8
    for case in golden["longwriter_S_l"]:
        assert longbench_score(case["required"], case["words"]) == pytest.approx(case["S_l"], abs=1e-4), case


def test_every_published_phrase_is_read(shared_data) -> None:  # type: ignore[no-untyped-def]
    rows = (shared_data("self_lengthen") / "LonGen_24.jsonl").read_text().splitlines()
    for row in map(json.loads, rows):
        low, high = parse_longgen(row["constraint"], row["type"]).interval()
        assert 1000 < low < high < 10_000, row


def test_limits() -> None:
    assert parse_longgen("2500字至3500字", "range") == LengthLimit(kind="range", low=2500, high=3500)
    assert parse_longgen("大于3000字", "above") == LengthLimit(kind="above", n=3000)
    assert LengthLimit(kind="below", n=10).interval() == (5, 10)
    assert longgen_score(7, LengthLimit(kind="range", low=7, high=7)) == 1.0
    stored = {"kind": "about", "low": None, "high": None, "n": 200}
    assert LengthLimit.model_validate(stored).interval() == (160, 240)


@pytest.mark.parametrize(
    ("constraint", "kind"),
    [("many words", "about"), ("2000-3000 words", "above"), ("2000 words", "range"),
     ("3000-2000 words", "range"), ("2000 words", "roughly"), ("0 words", "about")],
)  # fmt: skip
def test_phrases_that_do_not_fit(constraint: str, kind: str) -> None:
    with pytest.raises(ValueError, match=r"constraint|type|a range needs|greater than"):
        parse_longgen(constraint, kind)


@pytest.mark.parametrize(
    "fields",
    [{"kind": "about"}, {"kind": "range", "low": 3}, {"kind": "range", "low": 4, "high": 3},
     {"kind": "above", "n": 3, "low": 3}, {"kind": "below", "n": 0}, {"kind": "exactly", "n": 3}],
)  # fmt: skip
def test_incomplete_limits(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LengthLimit.model_validate(fields)


def test_longbench_ends() -> None:
    assert longbench_score(1000, 0) == 0.0
    assert longbench_score(1000, 1) == 0.0
    assert longbench_score(300, 300) == 100.0
    with pytest.raises(ValueError, match="above 0"):
        longbench_score(0, 10)

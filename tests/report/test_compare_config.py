"""Differences of resolved recipes."""

from __future__ import annotations

from typing import Any

from itercli.report.compare_config import differences, flat


def config(**changes: Any) -> dict[str, Any]:
    return {"name": "r", "description": "text", "training": {"lr": 0.1}, "loop": {"a": {"n": 1}}} | changes


def test_only_what_differs_is_there() -> None:
    assert differences({"x": config(), "y": config(name="other", description="another")}) == []
    found = differences({"x": config(), "y": config(training={"lr": 0.2, "epochs": 2})})
    assert found == [
        {"key": "training.lr", "values": {"x": 0.1, "y": 0.2}, "also": []},
        {"key": "training.epochs", "values": {"y": 2}, "also": []},
    ]


def test_an_option_that_is_handed_on_is_one_difference() -> None:
    both = [{"data": {"eval": {"limit": n}}, "loop": {"e": {"prompts": {"limit": n}}}} for n in (4, 8)]
    assert differences(dict(zip("xy", both, strict=True))) == [
        {"key": "data.eval.limit", "values": {"x": 4, "y": 8}, "also": ["loop.e.prompts.limit"]}
    ]


def test_a_stage_that_one_run_lacks_is_one_difference() -> None:
    more = config(loop={"a": {"n": 1}, "b": {"n": 2, "m": 3}})
    dropped = config(loop={"a": {"n": 1}, "b": None})
    for less in (config(), dropped):
        found = differences({"x": more, "y": less})
        assert found == [{"key": "loop.b", "values": {"x": {"n": 2, "m": 3}}, "also": []}]


def test_flat_keeps_lists_whole() -> None:
    assert flat({"a": {"b": [1, {"c": 2}]}, "d": None}) == {"a.b": [1, {"c": 2}], "d": None}

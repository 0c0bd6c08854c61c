"""The best iteration: highest, then earliest, with the models that were there when it was measured."""

from __future__ import annotations

from typing import Any

from itercli.report.best import best_iteration, sentence

MODELS: list[dict[str, Any]] = [
    {"version": version, "role": version.partition("@")[0], "made_by": made_by, "path": f"models/{version}"}
    for version, made_by in {
        "policy@0": None,
        "reward@0": None,
        "reward@0.1": "before/reward",
        "policy@1": "iteration-01/train",
        "policy@2": "iteration-02/train",
    }.items()
]
BEFORE = ["before/reward", "before/evaluate"]


def best(values: dict[int, Any], stages: tuple[str, str] = ("train", "evaluate")) -> Any:
    nodes = BEFORE + [f"iteration-0{n}/{name}" for n in (1, 2) for name in stages]
    return best_iteration("evaluate.win_rate", {"evaluate.win_rate": values}, MODELS, nodes)


def test_the_last_one_need_not_be_the_best() -> None:
    found = best({0: {"value": 0.5}, 1: {"value": 0.7}, 2: {"value": 0.6}})
    assert (found["iteration"], found["value"]) == (1, 0.7)
    assert found["models"] == {
        "policy": {"version": "policy@1", "path": "models/policy@1"},
        "reward": {"version": "reward@0.1", "path": "models/reward@0.1"},
    }
    assert sentence(found) == "iteration 1: evaluate.win_rate 0.700 of policy@1, reward@0.1"


def test_of_equal_ones_the_earliest_counts_and_the_start_is_one_of_them() -> None:
    found = best({2: 0.5, 1: 0.4, 0: 0.5})
    assert (found["iteration"], found["models"]["policy"]["version"]) == (0, "policy@0")
    assert sentence(found).startswith("the start: ")


def test_models_are_those_that_the_stage_saw() -> None:
    found = best({1: 0.1, 2: 0.9}, stages=("evaluate", "train"))
    assert (found["iteration"], found["models"]["policy"]["version"]) == (2, "policy@1")


def test_nothing_to_name_without_values_or_headline() -> None:
    assert best({}) is None
    assert best({1: {"value": None}}) is None
    assert best({3: 1.0}) is None  # of a longer plan that the run had before
    assert best_iteration(None, {"evaluate.win_rate": {1: 1.0}}, MODELS, BEFORE) is None

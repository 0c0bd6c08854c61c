"""Numbers by iteration: what each iteration gets, its keys, and what is said of wrong lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schedule import at_iteration
from itercli.recipe.schema import check
from itercli.stages.evaluate import Evaluate
from itercli.stages.sample import Sample
from itercli.stages.train import Train

LOOP = ("recipe=itertl", "iterations=3")


def planned(*overrides: str) -> Plan:
    composed = compose_recipe(overrides)
    return build_plan(check(composed.raw, base=Path.cwd(), locate=composed.locate), provisional=True)


def trained(plan: Plan) -> list[Train]:
    return [node.stage for node in plan.nodes.values() if isinstance(node.stage, Train)]


def test_each_iteration_gets_its_value() -> None:
    plan = planned(*LOOP, "training.lr=[5e-6,4e-6,3e-6]", "training.epochs=[2, 1, 0.5]",
                   "loop.sample.n=[8, 4, 2]", "loop.sample.temperature=[1.0, 0.9, 0.8]")  # fmt: skip
    assert [stage.training.lr for stage in trained(plan)] == [5e-6, 4e-6, 3e-6]
    assert [stage.training.epochs for stage in trained(plan)] == [2, 1, 0.5]
    samples = [plan.nodes[f"iteration-{n:02d}/sample"] for n in (1, 2, 3)]
    assert [(s.stage.n, s.stage.temperature) for s in samples] == [(8, 1.0), (4, 0.9), (2, 0.8)]  # type: ignore[attr-defined]
    assert [s.raw["n"] for s in samples] == [8, 4, 2]  # what a worker builds its stage from


def test_options_of_a_method_and_of_a_stage_s_parts() -> None:
    plan = planned("recipe=spin", "iterations=2", "loop.train.method.beta=[0.1, 5.0]",
                   "loop.evaluate.n=[5, 6]", "training.lora.r=[8, 16]")  # fmt: skip
    assert [stage.method.beta for stage in trained(plan)] == [0.1, 5.0]  # type: ignore[attr-defined]
    assert [stage.training.lora.r for stage in trained(plan)] == [8, 16]
    parts = [plan.nodes[f"iteration-{n:02d}/evaluate.sample"].stage for n in (1, 2)]
    assert [part.n for part in parts] == [5, 6]  # type: ignore[attr-defined]
    start = plan.nodes["before/evaluate.sample"].stage
    assert start.n == 5  # type: ignore[attr-defined]


def test_agent_r_anneals_alpha_and_epochs() -> None:
    plan = planned("recipe=agent_r", "iterations=4")
    judges = [plan.nodes[f"iteration-{n:02d}/judge"].stage for n in (1, 2, 3, 4)]
    assert [judge.alpha for judge in judges] == [0.5, 0.7, 1.0, 1.0]  # type: ignore[attr-defined]
    assert [stage.training.epochs for stage in trained(plan)] == [2, 1, 1, 1]


def test_a_value_counts_in_the_keys_of_its_iteration_and_later_ones_alone() -> None:
    def keys(rates: str) -> list[str]:
        plan = planned(*LOOP, f"training.lr={rates}")
        return [plan.nodes[f"iteration-{n:02d}/train"].key for n in (1, 2, 3)]

    one, other, number = keys("[5e-6, 4e-6, 3e-6]"), keys("[5e-6, 4e-6, 1e-6]"), keys("5e-6")
    assert one[:2] == other[:2]
    assert one[2] != other[2]
    assert one[0] == number[0]
    assert keys("[5e-6]") == number


def test_the_last_value_goes_on_and_the_plan_says_so() -> None:
    plan = planned(*LOOP, "training.lr=[2e-6, 1e-6]", "loop.sample.n=[1, 2, 3, 4]")
    assert [stage.training.lr for stage in trained(plan)] == [2e-6, 1e-6, 1e-6]
    assert "training.lr: 2 values for 3 iterations, the last holds for the others" in plan.notes
    assert "loop.sample.n: 4 values, of which 3 iterations take the first 3" in plan.notes
    assert not [note for note in planned(*LOOP, "training.lr=[3e-6, 2e-6, 1e-6]").notes if "values" in note]


def test_options_that_are_lists_stay_lists() -> None:
    given = {"uses": "evaluate", "temperature": [0.2, 0.8], "metrics": ["pass@1"], "n": [2, 4]}
    counts: dict[str, int] = {}
    found = at_iteration(Evaluate, given, 2, counts)
    assert (found["temperature"], found["n"], counts) == ([0.2, 0.8], 4, {"n": 2})
    assert at_iteration(Sample, {"stop": ["a", "b"]}, 1, counts)["stop"] == ["a", "b"]


def test_a_wrong_value_is_named_with_its_place() -> None:
    with pytest.raises(RecipeError) as caught:
        planned(*LOOP, "training.lr=[1e-6, -1, 1e-6]", "loop.sample.n=[]")
    problems = {p.key: p for p in caught.value.problems}
    assert problems["training.lr"].found == "-1"
    assert "loop.sample.n" in problems


def test_another_optimizer_is_another_key_and_adamw_is_as_before() -> None:
    def key(*overrides: str) -> str:
        return planned(*LOOP, *overrides).nodes["iteration-01/train"].key

    assert key("training.optimizer=adamw") == key() != key("training.optimizer=rmsprop")


def test_data_of_the_last_two_iterations() -> None:
    plan = planned("recipe=spin", "iterations=3", "loop.train.data_scope=last_two")
    inputs = [plan.nodes[f"iteration-{n:02d}/train"].inputs["examples"] for n in (1, 2, 3)]
    assert inputs == [
        ["iteration-01/pairs"],
        ["iteration-01/pairs", "iteration-02/pairs"],
        ["iteration-02/pairs", "iteration-03/pairs"],
    ]

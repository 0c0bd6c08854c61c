"""Estimated memory: sizes from files, parts of training, what a plan says where it is too much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itercli.models.size import PUBLISHED, folder_size
from itercli.recipe.compose import compose_recipe
from itercli.recipe.memory import GIB, Need, adapter_size, needs, notes, summary
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import check
from itercli.resources import Resources
from itercli.training.base import LoraSpec

GPU = Resources(cuda="/dev/nvidia0", gpu_bfloat16=True, memory=80 * GIB)
BILLIONS = PUBLISHED["alignment-handbook/zephyr-7b-sft-full"].parameters


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "What is red?", "reference": "A rose."}\n')
    return ["recipe=spin", "scale=paper", f"data.prompts={path}", f"data.heldout={path}"]


def planned(overrides: list[str], resources: Resources = GPU) -> Plan:
    composed = compose_recipe(overrides)
    recipe = check(composed.raw, base=Path.cwd(), locate=composed.locate)
    return build_plan(recipe, provisional=True, resources=resources)


def of(plan: Plan, stage: str) -> Need:
    return next(need for need in needs(plan) if need.stage == stage)


def test_a_folder_is_counted_by_its_header() -> None:
    plan = planned(["recipe=itertl"])
    folder = plan.roots["policy"].path
    assert folder is not None
    size = folder_size(folder)
    config = json.loads((folder / "config.json").read_text())
    assert size is not None
    assert (size.layers, size.hidden) == (config["num_hidden_layers"], config["hidden_size"])
    assert 1e6 < size.parameters < 4e6  # its card: 2 million


@pytest.mark.parametrize("content", ["{", "[]", '{"hidden_size": 8}', '{"vocab_size": "x"}'])
def test_a_folder_that_can_not_be_read_has_no_size(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 20)
    assert folder_size(tmp_path) is None


def test_full_training_has_weights_gradients_and_the_optimizers_states(given: list[str]) -> None:
    for optimizer, states in (("rmsprop", 4), ("adamw", 8), ("sgd", 0)):
        need = of(planned([*given, f"training.optimizer={optimizer}"]), "train")
        assert need.parts["weights"] == need.parts["gradients"] == 4 * BILLIONS
        assert need.parts["optimizer"] == states * BILLIONS
    assert of(planned(given), "sample").bytes == 2 * BILLIONS
    stored, anew = (
        of(planned([*given, f"training.gradient_checkpointing={flag}"]), "train").parts["activations"]
        for flag in ("false", "true")
    )
    assert stored > 5 * anew


def test_an_adapter_takes_a_fraction(given: list[str]) -> None:
    plan = planned([*given, "trainer=lora"])
    need = of(plan, "train")
    size = PUBLISHED["alignment-handbook/zephyr-7b-sft-full"]
    # peft counts 41.9 million at rank 16: this model's heads share keys and values.
    assert adapter_size(size, LoraSpec(r=16)) / 1e6 == pytest.approx(45, abs=1)
    assert need.parts["weights"] == pytest.approx(2 * BILLIONS, rel=0.02)
    assert need.bytes is not None
    assert need.bytes < 20 * GIB
    assert notes(plan, needs(plan)) == []


def test_a_plan_says_what_does_not_fit_and_why(given: list[str]) -> None:
    plan = planned(given)
    (line,) = notes(plan, needs(plan))
    assert line.startswith("train: about 82.2 GiB of memory (weights 27.0, gradients 27.0, optimizer 27.0,")
    assert "this GPU has 80.0" in line
    assert "trainer=lora" in line
    small = planned(given, Resources(memory=8 * GIB))
    first, second = notes(small, needs(small))
    assert first.startswith("evaluate.sample, sample: about 13.5 GiB")
    assert "this machine has 8.0" in second
    assert notes(planned(given, Resources()), needs(plan)) == []  # nobody knows the device


def test_a_model_of_unknown_size_is_said_to_be_unknown(given: list[str]) -> None:
    found = needs(planned([*given, "model=org/unheard-of"]))
    assert {need.bytes for need in found} == {None}
    assert "unknown: evaluate.sample (org/unheard-of), sample (org/unheard-of)" in summary(found)

"""The JSON Schema for editors: shipped files fit it, misspelt ones don't."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from itercli import registry
from itercli.recipe.json_schema import recipe_schema
from itercli.recipe.tree import builtin_dir

FILES = sorted([*builtin_dir().glob("recipe/*.yaml"), *builtin_dir().glob("scale/**/*.yaml")])
TOY = Path(__file__).parents[1] / "toy" / "toy_plugin.py"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_shipped_files_fit(validator: Draft202012Validator, path: Path) -> None:
    assert [e.message for e in validator.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("iteration", 3),
        ("iterations", "three"),
        ("loop.sample.temprature", 0.5),
        ("loop.sample.n", "many"),
        ("loop.sample.uses", "smaple"),
        ("loop.score.scorer", "functionl"),
        ("loop.score.scorer.score_rul", "mixed"),
        ("loop.train.method", {"name": "rankin"}),
        ("loop.train.training", {"learning_rate": 1}),
        ("training.lrr", 0.1),
        ("sampler", {"name": "vllm", "dtyp": "auto"}),
        ("tracker", "wandbb"),
        ("roles.policy", {"pth": "x"}),
        ("executor", {"retry": 1}),
        ("loop.score.scorer", {"score_rul": "mixed"}),  # also where the name comes from elsewhere
    ],
)
def test_mistakes_are_marked(validator: Draft202012Validator, place: str, value: Any) -> None:
    raw = yaml.safe_load((builtin_dir() / "recipe" / "itertl.yaml").read_text())
    assert validator.is_valid(raw)
    broken = copy.deepcopy(raw)
    *folders, last = place.split(".")
    inner = broken
    for key in folders:
        inner = inner[key]
    inner[last] = value
    assert not validator.is_valid(broken)


def test_interpolations_fit_everywhere(validator: Draft202012Validator) -> None:
    text = """
    iterations: ${n}
    data: {train: "${x}", anything: [1]}
    roles: {policy: "${model}"}
    tracker: {wandb: {project: mine}}
    loop:
      sample:
        uses: sample
        n: "${n}"
        stop: ["${end}"]
        sampler: "${sampler}"
        prompts: {name: jsonl, path: "???"}
      dropped: null
      whole: ${before.whole}
    """
    assert [e.message for e in validator.iter_errors(yaml.safe_load(text))] == []


def test_plug_ins_are_in_it() -> None:
    registry.load_plugin(TOY)
    recipe = yaml.safe_load(TOY.with_name("toy.yaml").read_text())
    assert Draft202012Validator(recipe_schema()).is_valid(recipe)

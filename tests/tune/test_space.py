"""The search space: sweep syntax, what a trial is given, corners."""

from __future__ import annotations

import json

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from pydantic import ValidationError

from itercli.recipe.errors import RecipeError
from itercli.tune.space import corners, overrides_of, point, split, text
from itercli.tune.spec import Knob


@pytest.mark.parametrize(
    ("sweep", "knob"),
    [
        ("4,8", Knob(choices=(4, 8))),
        ("a,'b c',null,{k:1}", Knob(choices=("a", "b c", None, {"k": 1}))),
        ("interval(0.1,0.9)", Knob(low=0.1, high=0.9)),
        ("tag(log,interval(1e-5,1e-3))", Knob(low=1e-5, high=1e-3, log=True)),
        ("int(interval(1,8))", Knob(low=1, high=8)),
        ("range(1,10,3)", Knob(low=1, high=7, step=3)),
        ("range(0,10)", Knob(low=0, high=9, step=1)),
    ],
)
def test_hydras_sweeps(sweep: str, knob: Knob) -> None:
    fixed, space = split(["recipe=x", f"a.b={sweep}", "l=[1,2]", "model=org/name"])
    assert fixed == ["recipe=x", "l=[1,2]", "model=org/name"]
    assert space == {"a.b": knob}
    assert space["a.b"].whole == knob.whole


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("a=interval(1e-5,1e-3,log)", "too many positional arguments"),
        ("a=interval(3,1)", "low < high"),
        ("a=tag(log,interval(0,1))", "low > 0"),
        ("a=glob(*)", "can't be tuned"),
        ("+a=1,2", "without"),
    ],
)
def test_what_is_no_space_is_explained(override: str, what: str) -> None:
    with pytest.raises(RecipeError, match=what) as caught:
        split([override])
    assert override in str(caught.value)
    assert "tag(log,interval(1e-5,1e-3))" in str(caught.value)


@pytest.mark.parametrize(
    "value", [{}, {"low": 1}, {"low": 2, "high": 1}, {"low": 1, "high": 2, "choices": [1]}]
)
def test_what_is_no_knob_is_refused(value: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Knob.model_validate(value)


@pytest.mark.parametrize(
    "value",
    [
        "tiny-rtl",
        "org/name",
        "8",
        "a b",
        "it's, [x]",
        True,
        None,
        1e-05,
        [1, "x y"],
        {"name": "a", "k": [1.5]},
    ],
)
def test_a_value_survives_the_command_line(value: object) -> None:
    parsed = OverridesParser.create().parse_override(f"key={text(value)}")
    assert not parsed.is_sweep_override()
    plain = split([f"key={text(value)},other"])[1]["key"].choices[0]
    assert (type(plain), plain) == (type(value), value)


def test_a_trial_is_given_what_can_be_typed() -> None:
    space = {"lr": Knob(low=1e-5, high=1e-3, log=True), "n": Knob(choices=(1, True, {"k": 1}))}
    assert point({"lr": 0.00037454011884736, "n": True}, space) == {"lr": 0.0003745, "n": True}
    assert point({"lr": 0.00099999999, "n": "{k: 1}"}, space) == {"lr": 0.001, "n": {"k": 1}}
    assert overrides_of({"lr": 0.0003745}) == ["lr=0.0003745"]


def test_corners_have_both_ends_and_every_choice() -> None:
    found = corners({"a": Knob(low=1, high=5), "b": Knob(choices=("x", "y", "z"))})
    assert found == [{"a": 1, "b": "x"}, {"a": 5, "b": "z"}, {"a": 1, "b": "y"}]
    assert json.dumps(found)

"""Each part of recipes is described: options, fields, an example that is valid YAML."""

from __future__ import annotations

import json

import pytest
import yaml

from itercli import registry
from itercli.cli.main import main
from itercli.recipe.parts import ABOUT, KINDS, Option, names, part

ALL = [(kind, name) for kind in KINDS for name in names(kind)]


def test_kinds_are_the_registry_with_metrics_and_records() -> None:
    assert set(KINDS) == {*registry.GROUPS, "metric", "record"} == set(ABOUT)
    assert all(names(kind) for kind in KINDS)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_part_is_described_with_an_example(kind: str, name: str) -> None:
    found = part(kind, name)
    assert len(found.summary) > 10
    if kind == "record":
        assert found.options
        return
    (value,) = yaml.safe_load(found.example).values()
    cls = registry.find(kind, name)
    if cls is None:  # a metric
        return
    given = value if isinstance(value, dict) else {}
    assert given.get("uses", given.get("name", value)) == name
    assert given.keys() - {"uses", "name"} <= cls.model_fields.keys()
    for option in found.options:
        assert not option.required or option.key in given


def test_options_of_a_stage() -> None:
    options = {o.key: o for o in part("stage", "sample").options}
    assert options["n"] == Option("n", "whole number", False, 1, "Completions per prompt.", False)
    assert options["prompts"].required
    assert not options["sampler"].required  # the recipe's
    assert options["once"].how


def test_fields_of_a_record_have_the_text_of_its_docstring() -> None:
    fields = {o.key: o for o in part("record", "Score").options}
    assert fields["passed"].type == "true | false or null"
    assert fields["passed"].help.startswith("Whether the answer is functionally right")


def test_metrics_are_general_ones_and_those_of_scorers_and_stages() -> None:
    assert part("metric", "pass@K").reads == ("Score.passed",)
    assert part("metric", "kl").summary == "A metric of stage divergence."
    measures = registry.find("scorer", "text").MEASURES  # type: ignore[attr-defined,union-attr]
    assert part("metric", measures[0]).reads == (f"Score.meta.{measures[0]}",)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parts"]) == 0
    assert "selector" in capsys.readouterr().out
    assert main(["parts", "selector"]) == 0
    assert "best" in capsys.readouterr().out
    assert main(["parts", "scorer", "functional"]) == 0
    assert "timeout" in capsys.readouterr().out
    assert main(["parts", "method", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in listed["parts"]] == registry.names("method")
    assert main(["parts", "scorer", "functionl"]) == 2
    assert "did you mean functional?" in capsys.readouterr().err
    assert main(["parts", "skorer"]) == 2
    assert "did you mean scorer?" in capsys.readouterr().err

"""A line: what it means together with the recipe, and all that is wrong with it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from itercli.recipe.errors import RecipeError
from itercli.tune.line import Line, read
from itercli.tune.spec import Knob, TuneSpec
from itercli.tune.trial import up_to
from tests.conftest import Project


def line(*overrides: str) -> Line:
    return read(["recipe=hill.yaml", *overrides], [], download=False)


def test_recipe_and_shell_make_the_study(hill: Project) -> None:
    found = line("loop.climb.steps=1,2", "seeds=3", "tune.sampler=random", "loop.climb.delay=0.1")
    x, steps = Knob(low=0.0, high=1.0), Knob(choices=(1, 2))
    assert found.spec.space == {"loop.climb.steps": steps, "loop.climb.x": x}
    assert (found.metric, found.spec.trials, found.spec.sampler) == ("climb.height", 2, "random")
    assert list(found.seeds()) == [0, 1, 2]
    values = {"loop.climb.steps": 2}
    of_first = ["recipe=hill.yaml", "loop.climb.delay=0.1", "loop.climb.steps=2"]
    assert found.overrides(values, 0) == of_first
    assert found.overrides(values, 2) == [*of_first, "seed=2"]


def test_a_key_that_is_set_is_not_tuned(hill: Project) -> None:
    assert list(line("loop.climb.x=0.3", "loop.climb.steps=1,2").spec.space) == ["loop.climb.steps"]


def test_the_name_is_of_what_decides_the_trials(hill: Project) -> None:
    name = line().name
    assert name.startswith("hill-")
    assert name == line("trials=9", "loop.climb.delay=0.1").name
    assert len({name, *(line(o).name for o in ("seeds=2", "direction=minimize", "loop.climb.steps=3"))}) == 4


def test_a_cut_plan_is_the_beginning_of_the_whole(hill: Project) -> None:
    whole = line().plan({"loop.climb.x": 0.5}, 0)
    cut = up_to(whole, 1)
    assert list(cut.nodes) == ["iteration-01/climb"]
    assert cut.nodes["iteration-01/climb"].key == whole.nodes["iteration-01/climb"].key


@pytest.mark.parametrize(
    ("override", "key", "near", "where"),
    [
        ("loop.climb.xx=1,2", "loop.climb.xx", "x", "command line: loop.climb.xx=1,2"),
        ("loop.clim.x=1,2", "loop.clim.uses", "stage climb", "command line: loop.clim.x=1,2"),
        ("loop.climb.steps=1,2,b", "loop.climb.steps", "", "command line: loop.climb.steps=1,2,b"),
        ("metric=climb.heigt", "tune.metric", "height", "command line: tune.metric=climb.heigt"),
        ("metric=clim.height", "tune.metric", "climb", "command line: tune.metric=clim.height"),
        ("trails=3", "trails", "trials", "command line: trails=3"),
        ("tune.prunner=none", "tune.prunner", "pruner", "command line: tune.prunner=none"),
        ("seed=1,2", "seed", "", "command line: seed=1,2"),
        ("loop.climb.x=1", "tune.space", "", ""),
    ],
)
def test_mistakes_are_found_before_any_trial(
    hill: Project, override: str, key: str, near: str, where: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        line(override)
    (problem,) = caught.value.problems
    assert (problem.key, problem.nearest, problem.where) == (key, near, where)


def test_a_mistake_in_the_recipes_space_names_its_place(hill: Project) -> None:
    path = hill.path / "hill.yaml"
    path.write_text(path.read_text().replace("loop.climb.x: {low", "loop.climb.xx: {low"))
    with pytest.raises(RecipeError) as caught:
        line()
    (problem,) = caught.value.problems
    assert (problem.key, problem.nearest) == ("loop.climb.xx", "x")
    assert problem.where.startswith("hill.yaml:")


def test_what_the_page_shows_is_a_study() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tune.md").read_text()
    shown = re.findall(r"^    iter tune (recipe=.*)$", page, re.MULTILINE)
    swept = re.findall(r"`'?([a-z.]+=[^`' ]*[,(][^`' ]*)'?`", page)
    assert len(shown) > 1
    assert len(swept) > 5
    for overrides in shown:
        assert read(shlex.split(overrides), [], download=False).spec.space
    given = read(["recipe=itertl", *swept], [], download=False)
    assert set(given.spec.space) == {o.partition("=")[0] for o in swept}
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(TuneSpec.model_validate(yaml.safe_load(block)["tune"]).space) == 3

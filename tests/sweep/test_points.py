"""From a line with several values to runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.engine.store import Store
from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.sweep.points import expand, plan_points
from itercli.sweep.preview import preview
from itercli.sweep.table import short_names
from tests.conftest import Project


def changed(*overrides: str) -> list[dict[str, str]]:
    return [p.changed for p in expand(overrides)]


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project.path)
    return project.path


def test_syntax_is_hydras() -> None:
    assert changed("recipe=itertl", "seed=1,2", "a.b=x,y") == [
        {"seed": "1", "a.b": "x"},
        {"seed": "1", "a.b": "y"},
        {"seed": "2", "a.b": "x"},
        {"seed": "2", "a.b": "y"},
    ]
    assert changed("seed=range(0,3)") == [{"seed": "0"}, {"seed": "1"}, {"seed": "2"}]
    assert changed("seed=choice(4,7)") == [{"seed": "4"}, {"seed": "7"}]
    assert [c["recipe"] for c in changed("recipe=glob(itertl*)")] == [
        "itertl", "itertl_mle", "itertl_non_iterative",
    ]  # fmt: skip
    assert changed("a=[1, 2]", "b={x: 1}", "c='1,2'") == [{}]


def test_values_that_are_no_points_are_refused() -> None:
    with pytest.raises(RecipeError) as error:
        expand(["seed=interval(0,1)", "model=glob(zz*)"])
    first, second = error.value.problems
    assert (first.key, second.key) == ("seed", "model")
    assert "range" in first.allowed
    assert "tiny-rtl" in second.allowed


def test_points_that_are_the_same_run_are_one(here: Path) -> None:
    planned = plan_points(["recipe=toy.yaml", "training.lr=0.1,0.2,0.10", "training.threads=1,2"])
    assert [p.point.changed["training.lr"] for p in planned] == ["0.1", "0.2"]
    assert planned[0].point.run == planned[0].plan.name


def test_recipes_of_the_user_sweep(here: Path) -> None:
    group = here / "own" / "recipe"
    group.mkdir(parents=True)
    text = (here / "toy.yaml").read_text()
    (group / "mine.yaml").write_text(text.replace("name: toy", "name: mine", 1))
    planned = plan_points(["recipe=toy.yaml,mine", "seed=1"], ["own"])
    assert [p.plan.recipe.config.name for p in planned] == ["toy", "mine"]


def test_all_that_is_wrong_is_in_one_report(here: Path) -> None:
    line = ["recipe=toy.yaml", "seed=-1,1", "loop.sample.m=1,2", "iterations=none"]
    with pytest.raises(RecipeError) as error:
        plan_points(line)
    found = {(p.key, p.found): p.where for p in error.value.problems}
    assert set(found) == {
        ("seed", "-1"),
        ("loop.sample.m", "1"),
        ("loop.sample.m", "2"),
        ("iterations", "'none'"),
    }
    assert found["seed", "-1"] == "command line: seed=-1"
    assert not (here / "runs").exists()


def test_a_problem_of_some_points_names_one(here: Path) -> None:
    (here / "other.yaml").write_text(
        (here / "toy.yaml").read_text().replace("selector: toy", "selector: tyo")
    )
    with pytest.raises(RecipeError) as error:
        plan_points(["recipe=toy.yaml,other.yaml", "seed=1,2"])
    (problem,) = error.value.problems
    assert problem.nearest == "toy"
    assert problem.where.endswith("(point recipe=other.yaml seed=1 and 1 more)")


def test_shared_stages_count_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["recipe=toy.yaml", "iterations=1", "training.lr=0.1,0.2"]
    shown = preview(plan_points(line), Store(here / "runs" / ".store"))
    # 8 stages each; tasks, samples, scores and examples come before the first training.
    assert shown.total() == {"points": 2, "done": 0, "stages": 16, "different": 12, "todo": 12}
    assert main(["plan", "-m", *line, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["total"] == shown.total()
    assert [(p["shared"], p["todo"]) for p in content["points"]] == [(0, 8), (4, 4)]


def test_without_m_several_values_are_explained() -> None:
    for override in ("seed=1,2", "recipe=itertl,upo"):
        with pytest.raises(RecipeError, match="iter run -m"):
            compose_recipe(["recipe=itertl", override])
    with pytest.raises(RecipeError, match="iter run -m"):
        compose_recipe(["recipe=itertl", "hydra/launcher=joblib"])


def test_columns_have_the_shortest_name_that_tells_them_apart() -> None:
    assert short_names(["training.lr", "loop.sample.n", "loop.evaluate.n", "seed"]) == [
        "lr", "sample.n", "evaluate.n", "seed",
    ]  # fmt: skip

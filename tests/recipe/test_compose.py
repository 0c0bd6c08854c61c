"""Composing: overrides, user folders, recipe files, located errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import Problem, RecipeError
from itercli.recipe.schema import check
from itercli.recipe.tree import builtin_dir, options


def problems(*overrides: str, recipes: tuple[Path, ...] = ()) -> dict[str, str]:
    """Key -> full text of every problem."""
    with pytest.raises(RecipeError) as caught:  # noqa: PT012 - either call may find them
        composed = compose_recipe(list(overrides), recipes)
        check(composed.raw, base=Path.cwd(), locate=composed.locate)
    return {p.key: str(p) for p in caught.value.problems}


def test_dotted_overrides() -> None:
    raw = compose_recipe(["recipe=itertl", "loop.sample.n=8", "seed=1", "training.lr=1e-4"]).raw
    assert raw["loop"]["sample"]["n"] == 8
    assert raw["seed"] == 1
    assert raw["training"]["lr"] == 1e-4


def test_lists_and_quotes() -> None:
    raw = compose_recipe(
        ["recipe=itertl", "loop.evaluate.metrics=[pass@1, 'pass@2']", 'loop.sample.stop=["a b","="]']
    ).raw
    assert raw["loop"]["evaluate"]["metrics"] == ["pass@1", "pass@2"]
    assert raw["loop"]["sample"]["stop"] == ["a b", "="]


def test_mapping_replaces_what_was_there() -> None:
    raw = compose_recipe(["recipe=itertl", "data.train={name: jsonl, path: x.jsonl}"]).raw
    assert raw["loop"]["sample"]["prompts"] == {"name": "jsonl", "path": "x.jsonl"}
    raw = compose_recipe(["recipe=itertl", "loop.extra={uses: prompts, source: {name: rtl_tasks}}"]).raw
    assert raw["loop"]["extra"]["uses"] == "prompts"


def test_option_that_the_recipe_leaves_at_its_default_needs_no_plus() -> None:
    raw = compose_recipe(["recipe=itertl", "loop.sample.top_k=20", "executor.retries=2"]).raw
    assert raw["loop"]["sample"]["top_k"] == 20
    assert raw["executor"]["retries"] == 2


def test_interpolation_follows_overrides() -> None:
    raw = compose_recipe(["recipe=itertl", "loop.evaluate.n=7"]).raw
    assert raw["before"]["evaluate"]["n"] == 7


@pytest.mark.parametrize("model", ["org/name", "./folder/with, comma", "/abs/path=x"])
def test_model_takes_hub_ids_and_folders(model: str) -> None:
    assert compose_recipe(["recipe=itertl", f"model={model}"]).raw["model"]["path"] == model


def test_model_takes_a_mapping() -> None:
    raw = compose_recipe(["recipe=itertl", "model={path: org/name, revision: abc}"]).raw
    assert raw["model"] == {"path": "org/name", "revision": "abc"}


def test_group_options() -> None:
    raw = compose_recipe(["recipe=itertl", "trainer=lora", "sampler=transformers"]).raw
    assert raw["training"]["tuning"] == "lora"
    assert raw["training"]["lr"] == 3e-4  # the recipe's own
    assert raw["sampler"]["name"] == "transformers"


def test_user_folder_by_argument_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "yours"):
        folder = tmp_path / name / "recipe"
        folder.mkdir(parents=True)
        (folder / f"{name}.yaml").write_text(
            f"# @package _global_\ndefaults: [itertl, _self_]\nname: {name}\n"
        )
    monkeypatch.setenv("ITER_RECIPES", str(tmp_path / "yours"))
    assert compose_recipe(["recipe=mine"], [tmp_path / "mine"]).raw["name"] == "mine"
    assert compose_recipe(["recipe=yours"]).raw["name"] == "yours"
    assert {"mine", "yours", "itertl"} <= set(options("recipe", [tmp_path / "mine"]))


def test_recipes_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes" / "recipe"
    folder.mkdir(parents=True)
    (folder / "local.yaml").write_text("# @package _global_\ndefaults: [itertl, _self_]\nname: local\n")
    monkeypatch.chdir(tmp_path)
    assert compose_recipe(["recipe=local"]).raw["name"] == "local"


def test_users_option_replaces_a_shipped_one(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rtl_tasks.yaml").write_text(
        "train: {name: rtl_tasks, limit: 3}\neval: {name: rtl_tasks}\nunseen: {name: rtl_tasks}\n"
    )
    assert compose_recipe(["recipe=itertl"], [tmp_path]).raw["data"]["train"]["limit"] == 3


def test_recipe_file_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("# @package _global_\ndefaults: [itertl, _self_]\nname: own\niterations: 7\n")
    assert compose_recipe([f"recipe={path}"]).raw["iterations"] == 7


def test_unknown_recipe_lists_and_suggests() -> None:
    text = problems("recipe=itretl")["recipe"]
    assert "did you mean: itertl" in text
    assert "itertl_mle" in text
    assert "command line: recipe=itretl" in text


def test_no_recipe_says_which_there_are() -> None:
    assert "itertl" in problems("seed=1")["recipe"]


def test_missing_folder_and_file_are_named(tmp_path: Path) -> None:
    assert "--recipes" in problems("recipe=itertl", recipes=(tmp_path / "nope",))[""]
    assert "no such file" in problems("recipe=nope.yaml")["recipe"]


def test_broken_yaml_and_interpolation_are_located(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("# @package _global_\nname: own\nroles: {policy: ${modle}}\n")
    (text,) = problems(f"recipe={path}").values()
    assert "modle" in text
    path.write_text("# @package _global_\nname: [own\n")
    (text,) = problems(f"recipe={path}").values()
    assert "own" in text


def test_garbage_override() -> None:
    assert "not an override" in problems("recipe=itertl", "loop.sample.n")[""]


def test_all_mistakes_in_one_report_with_place_and_suggestion() -> None:
    found = problems(
        "recipe=itertl", "loop.sample.nn=3", "loop.train.method=rankng", "loop.train.init_from=prev",
        "loop.build.selector.targts=reference", "training.lr=-1", "loop.smaple.n=2", "iterations=many",
        "loop.train.role=plicy", "roles.policy.pth=x", "executor.colocate=never", "nonsense=1",
    )  # fmt: skip
    expected = {
        "loop.sample.nn": "did you mean: n",
        "loop.train.method": "did you mean: ranking",
        "loop.train.init_from": "did you mean: previous",
        "loop.build.selector.targts": "did you mean: targets",
        "training.lr": "greater than 0",
        "loop.smaple.uses": "did you mean: stage sample",
        "iterations": "integer",
        "roles.policy.pth": "did you mean: path",
        "executor.colocate": "'auto', 'keep' or 'exit'",
        "nonsense": "unknown key",
    }
    for key, text in expected.items():
        assert text in found[key], found[key]
        assert "command line: " in found[key]


def test_mistake_in_a_file_is_located_by_line(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "# @package _global_\ndefaults: [itertl, _self_]\nname: own\nloop:\n  sample:\n    n: 0\n"
    )
    text = problems(f"recipe={path}")["loop.sample.n"]
    assert f"{path}:6" in text
    assert "greater than or equal to 1" in text


def test_builtin_folder_is_there() -> None:
    assert (builtin_dir() / "iter.yaml").is_file()


def checked(*overrides: str) -> dict[str, Problem]:
    """Problems of a recipe by key."""
    composed = compose_recipe(["recipe=itertl", *overrides])
    with pytest.raises(RecipeError) as error:
        check(composed.raw, base=Path.cwd(), locate=composed.locate, origin=composed.origin)
    return {p.key: p for p in error.value.problems}


def test_value_of_an_interpolation_is_reported_where_it_is_written() -> None:
    found = checked("data.train.limit=0", "data.eval.nolimit=1")
    assert found.keys() == {"data.train.limit", "data.eval.nolimit"}
    assert found["data.train.limit"].where == "command line: data.train.limit=0"
    assert found["data.eval.nolimit"].nearest == "limit"


def test_option_of_a_source_in_place_is_reported_at_the_stage() -> None:
    found = checked("loop.sample.prompts={name: rtl_tasks, limit: 0}")
    assert found.keys() == {"loop.sample.prompts.limit"}


def test_wrong_keys_at_the_top_hide_nothing_below() -> None:
    found = checked("++nonsense.deep=1", "seed=x", "loop.sample.nn=3", "loop.train.role=plicy")
    assert found.keys() == {"nonsense", "seed", "loop.sample.nn", "loop.train.role"}


def test_a_plug_in_that_fails_brings_no_follow_ups(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no such thing')")
    parts = ("loop.score.scorer=brevity", "++loop.more={uses: harvest}", "loop.build.selector=besst")
    found = checked(f"plugins=[{broken}]", *parts)
    assert found.keys() == {"plugins.0", "loop.build.selector"}
    assert "its components were not checked" in found["plugins.0"].what


def test_null_leaves_a_whole_scope_out() -> None:
    composed = compose_recipe(["recipe=itertl", "before=null", "headline=null"])
    assert check(composed.raw, base=Path.cwd()).stages["before"] == {}


@pytest.mark.parametrize(
    ("override", "key", "fix"),
    [
        ("loop.sample.stop=a=b", "loop.sample.stop", "'loop.sample.stop=\"a=b\"'"),
        ("loop.sample.stop=[a", "loop.sample.stop", "'loop.sample.stop=\"[a\"'"),
        ("data=3", "data", "verilogeval"),
        ("mine.yaml", "", "KEY=VALUE"),
    ],
)
def test_what_hydra_can_not_read_is_answered_with_the_fix(override: str, key: str, fix: str) -> None:
    overrides = [override] if override == "mine.yaml" else ["recipe=itertl", override]
    with pytest.raises(RecipeError) as error:
        compose_recipe(overrides)
    (problem,) = error.value.problems
    assert problem.key == key
    assert fix in problem.allowed
    if override == "mine.yaml":
        assert problem.nearest == "recipe=mine.yaml"
    else:
        assert problem.where == f"command line: {override}"

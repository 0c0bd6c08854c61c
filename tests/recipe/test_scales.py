"""Recipes at the size of their papers: each preset composes, validates and plans without its models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import check
from itercli.recipe.tree import builtin_dir

SCALES = [(path.parent.name, path.stem) for path in sorted((builtin_dir() / "scale").glob("*/*.yaml"))]
FILES = {
    "path": '{"prompt": "What is red?", "chosen": "A rose.", "rejected": "The sea."}\n',
    "prompts": '{"prompt": "What is blue?", "reference": "The sky."}\n',
    "heldout": '{"prompt": "What is green?"}\n',
}
RTLCODER = '{"Instruction": "Invert.", "Input": "module f(output y);", "Response": ["assign y = ~a;"]}\n'
# What a preset is told beside its name: files of one's own.
NEEDS = {
    "itertl": ("path",),
    "upo": ("path", "prompts", "heldout"),
    "online_dpo": ("prompts", "heldout"),
    "spin": ("prompts", "heldout"),
    "self_rewarding": ("prompts", "heldout"),
}


def given(recipe: str, scale: str, folder: Path) -> list[str]:
    """The overrides that a preset is planned with."""
    found = [f"recipe={recipe}", f"scale={scale}"]
    for name in NEEDS.get(recipe, ()):
        path = folder / f"{name}.jsonl"
        path.write_text(RTLCODER if recipe == "itertl" else FILES[name])
        found.append(f"data.{name}={path}")
    return found


def planned(overrides: list[str]) -> tuple[dict[str, Any], Plan]:
    composed = compose_recipe(overrides)
    recipe = check(composed.raw, base=Path.cwd(), locate=composed.locate)
    return composed.raw, build_plan(recipe, provisional=True)


@pytest.mark.parametrize(("recipe", "scale"), SCALES)
def test_every_shipped_scale_composes_validates_and_plans(recipe: str, scale: str, tmp_path: Path) -> None:
    overrides = given(recipe, scale, tmp_path)
    raw, plan = planned(overrides)
    for role, root in plan.roots.items():
        path = raw["roles"][role]["path"]
        assert root.source != "absent" or any(f"{path} is not here yet" in note for note in plan.notes)
    drawing = next(name for name in ("sample", "respond", "rollout") if name in raw["loop"])
    option = "max_turns" if drawing == "rollout" else "n"
    own, _ = planned([*overrides, "model=tiny-rtl", "trainer=lora", f"loop.{drawing}.{option}=7"])
    assert own["model"]["path"] == "tiny-rtl"  # the shell beats the scale
    assert (own["training"]["tuning"], own["loop"][drawing][option]) == ("lora", 7)
    assert own["loop"]["evaluate"] == raw["loop"]["evaluate"]


@pytest.mark.parametrize("recipe", sorted(NEEDS.keys() - {"itertl"}))
def test_a_referee_that_nothing_learns_from_compares_with_the_start(recipe: str, tmp_path: Path) -> None:
    raw, plan = planned(given(recipe, "paper", tmp_path))
    wins = plan.nodes["iteration-02/referee_wins"]
    assert wins.inputs["of"] == ["iteration-02/referee"]
    assert wins.inputs["against"] == ["before/referee"]
    assert plan.nodes["before/evaluate.sample"].models["policy"].node is None
    assert plan.nodes["iteration-03/referee"].models["model"].label == "referee@0"
    assert raw["headline"] == "referee_wins.win_rate"


def test_upo_starts_from_a_policy_trained_on_the_labelled_pairs(tmp_path: Path) -> None:
    _, plan = planned(given("upo", "paper", tmp_path))
    nodes = plan.nodes
    for name in ("train_reward", "train_estimator", "train_policy"):
        assert nodes[f"before/{name}"].inputs["examples"] == ["before/labelled"]
    assert nodes["before/labelled"].stage.NAME == "preferences"
    assert nodes["iteration-01/sample"].models["policy"].node == "before/train_policy"
    train = nodes["iteration-02/train"].models
    assert (train["start"].node, train["reference"].node) == ("iteration-01/train", None)
    assert nodes["iteration-01/candidates"].inputs["references"] == ["iteration-01/reward_references"]
    assert "before/draft" not in nodes


def test_online_dpo_trains_nothing_but_the_policy(tmp_path: Path) -> None:
    _, plan = planned(given("online_dpo", "paper", tmp_path))
    trained = [i for i, node in plan.nodes.items() if node.stage.NAME == "train"]
    assert trained == [f"iteration-0{n}/train" for n in (1, 2, 3)]
    assert plan.nodes["iteration-03/reward"].models["model"].node is None


def test_spin_and_upo_have_the_figures_of_their_authors_code(tmp_path: Path) -> None:
    _, spin = planned(given("spin", "paper", tmp_path))
    trained: list[Any] = [spin.nodes[f"iteration-0{n}/train"].stage for n in (1, 2, 3, 4)]
    assert [stage.training.lr for stage in trained] == [5e-7, 5e-7, 1e-7, 1e-7]
    assert [stage.method.beta for stage in trained] == [0.1, 0.1, 0.1, 5.0]
    assert {(s.training.optimizer, s.training.epochs, s.training.max_length) for s in trained} == {
        ("rmsprop", 6, 1024)
    }
    assert spin.nodes["iteration-01/sample"].raw["max_new_tokens"] == 256
    inputs = spin.nodes["iteration-04/train"].inputs["examples"]
    assert inputs == ["iteration-03/pairs", "iteration-04/pairs"]
    _, upo = planned(given("upo", "paper", tmp_path))
    rates = [upo.nodes[f"iteration-0{n}/train"].raw["training"]["lr"] for n in (1, 2, 3)]
    assert rates == [5e-6, 4e-6, 3e-6]


def test_itertl_has_rtlcoders_figures(tmp_path: Path) -> None:
    _, plan = planned(given("itertl", "paper", tmp_path))
    sample: Any = plan.nodes["iteration-01/sample"].stage
    spec: Any = plan.nodes["iteration-01/train"].stage.training  # type: ignore[attr-defined]
    assert sample.n == 3
    assert (spec.tuning, spec.lr, spec.batch_size, spec.epochs, spec.max_length) == (
        "full",
        1e-5,
        256,
        3,
        2048,
    )


def test_self_lengthen_stops_every_call_as_its_code_does() -> None:
    for recipe in ("self_lengthen", "self_lengthen_limits"):
        raw, _ = planned([f"recipe={recipe}", "scale=paper"])
        assert raw["model"]["path"] == "Qwen/Qwen2-7B-Instruct"
        stages = {**raw["loop"], **raw.get("after", {})}
        for name in ("propose", "respond", "extend", "evaluate", *(["limits"] if "limits" in stages else [])):
            assert stages[name]["stop"] == ["---", "\n---", "\n\n---", "\n\n\n"], name


def test_own_models_and_labelled_pairs_without_a_scale(tmp_path: Path) -> None:
    own = [o for o in given("upo", "paper", tmp_path) if not o.startswith("scale")]
    labelled = ["before.draft=null", "before.label=null", "before.labelled=${data.pairs}"]
    told = [
        "data=preferences",
        "data.truth=sentiment",
        "before.train_reward=null",
        "roles.reward.path=org/rm",
    ]
    _, plan = planned([*own, *labelled, *told])
    assert plan.nodes["before/train_estimator"].inputs["examples"] == ["before/labelled"]
    assert plan.nodes["iteration-01/reward"].models["model"].label == "reward@0"


def test_own_files_are_asked_for_by_name() -> None:
    with pytest.raises(RecipeError) as caught:
        compose_recipe(["recipe=online_dpo", "scale=paper", "data.heldout=x"])
    assert [p.key for p in caught.value.problems] == ["data.prompts"]


def test_a_scale_belongs_to_a_recipe() -> None:
    for overrides, allowed in (
        (["recipe=self_lengthen", "scale=papr"], "paper"),
        (["recipe=itertl_mle", "scale=paper"], "none"),
    ):
        with pytest.raises(RecipeError) as caught:
            compose_recipe(overrides)
        (problem,) = caught.value.problems
        assert (problem.key, problem.allowed) == ("scale", allowed)

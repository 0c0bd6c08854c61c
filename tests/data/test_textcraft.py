"""Tasks of TextCraft: a split that no option can mix up, and tasks that the environment takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from itercli.data.textcraft import TextCraftTasks, split_goals
from itercli.environments.pool import Worlds
from itercli.environments.textcraft import TextCraft
from itercli.environments.textcraft_files import load_rules, recipe_digest, recipe_folder
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check

SPLITS = ("train", "dev", "test")


def goals(**options: Any) -> list[str]:
    return [p.meta["task"]["goal"] for p in TextCraftTasks.model_validate(options).prompts()]


def test_each_goal_is_in_one_split_whatever_the_options() -> None:
    rules = load_rules(recipe_folder())
    found = {s: goals(split=s) for s in SPLITS}
    assert sorted(g for split in found.values() for g in split) == sorted(rules.recipes)
    assert {s: len(v) for s, v in found.items()} == {"train": 381, "dev": 55, "test": 108}
    for split in SPLITS:
        chosen = goals(split=split, seed=7, min_depth=2, max_depth=3, offset=1)
        assert set(chosen) < set(found[split])


def test_every_depth_is_shared_out_alike() -> None:
    rules = load_rules(recipe_folder())
    counts = {
        depth: [sum(rules.depths[g] == depth for g in split_goals(rules)[s]) for s in SPLITS]
        for depth in (1, 2, 3, 4)
    }
    assert counts == {1: [87, 13, 25], 2: [204, 29, 58], 3: [82, 12, 23], 4: [8, 1, 2]}


def test_depth_offset_and_limit_choose_in_a_fixed_order() -> None:
    shallow = goals(split="test", max_depth=1)
    assert len(shallow) == 25
    assert goals(split="test", max_depth=1, offset=3, limit=4) == shallow[3:7]
    assert shallow != sorted(shallow)
    depths = [p.meta["depth"] for p in TextCraftTasks(limit=40).prompts()]
    assert len(set(depths[:20])) > 1  # a limit does not cut a depth off


def test_prompts_say_the_task_and_their_reference_solves_it() -> None:
    worlds = Worlds(TextCraft(instances=1))
    for prompt in TextCraftTasks(split="dev", limit=5, seed=2).prompts():
        goal, words = prompt.meta["task"]["goal"], prompt.messages[0].content
        assert words == f"Craft {goal.removeprefix('minecraft:').replace('_', ' ')}."
        assert prompt.id == f"textcraft/{goal.removeprefix('minecraft:')}/2"
        assert prompt.meta["environment"] == TextCraft.NAME
        assert worlds.open(prompt.id, prompt.meta["task"]).endswith(f"Goal: c{words[1:]}")
        actions = (prompt.reference or "").splitlines()
        assert worlds.play(prompt.id, prompt.meta["task"], actions).score == 1.0


def test_a_plan_knows_the_recipe_files_and_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = {"path": "tiny-rtl"}
    act = {"uses": "rollout", "role": "policy", "prompts": "tasks", "environment": "textcraft"}
    raw = {
        "name": "crafts",
        "model": model,
        "roles": {"policy": model},
        "sampler": {"name": "transformers"},
        "before": {"tasks": {"uses": "prompts", "source": "textcraft"}},
        "loop": {"act": act},
    }
    recipe = check(raw, base=tmp_path)
    nodes = build_plan(recipe).nodes
    files = {"recipes": recipe_digest(recipe_folder())}
    assert nodes["before/tasks"].ingredients["fingerprint"] == files
    assert nodes["iteration-01/act"].ingredients["fingerprint"] == {"textcraft": files}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"before\.tasks.*pip install 'itercli\[textcraft\]'"):
        build_plan(recipe)

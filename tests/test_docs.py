"""What the documentation shows is true: code runs, recipes plan, links and commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from itercli import registry
from itercli.cli.main import COMMANDS
from itercli.environments.base import Step
from itercli.environments.pool import Worlds
from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check
from itercli.recipe.tree import builtin_dir

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def plan_file(path: Path, text: str, *overrides: str) -> int:
    path.write_text(text)
    composed = compose_recipe([f"recipe={path}", *overrides])
    return len(build_plan(check(composed.raw, base=Path.cwd())).nodes)


def test_recipes_of_the_page_plan(tmp_path: Path) -> None:
    found = blocks(ROOT / "docs" / "recipes.md", "yaml")
    assert len(found) == 2
    for n, text in enumerate(found):
        assert plan_file(tmp_path / f"r{n}.yaml", text) > 5


def test_recipe_with_a_judge_plans(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs" / "judging.md", "yaml")
    assert plan_file(tmp_path / "judged.yaml", text, "model=tiny-rtl") > 30


def test_plug_in_of_the_page_registers(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "docs" / "recipes.md", "python")
    path = tmp_path / "my_scorer.py"
    path.write_text(code)
    registry.load_plugin(path)
    scorer = registry.find("scorer", "brevity")
    assert scorer is not None
    assert scorer.model_validate({"limit": 3}).SOURCE_DIGEST


def test_environment_of_the_page_plays(tmp_path: Path) -> None:
    (code,) = blocks(ROOT / "docs" / "environments.md", "python")
    path = tmp_path / "countdown.py"
    path.write_text(code)
    registry.load_plugin(path)
    countdown = registry.find("environment", "countdown")
    assert countdown is not None
    worlds = Worlds(countdown(instances=1))  # type: ignore[arg-type]
    assert worlds.play("a", {"start": 4}, ["3"]) == Step("1 left", 0.75, 0.75)
    assert worlds.play("a", {"start": 4}, ["3", "2"]) == Step("0 left", 0.25, 1.0, done=True)
    assert worlds.play("a", {"start": 4}, ["3", "five"]).score == 0.75


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_exist(page: Path) -> None:
    for command in re.findall(r"^    iter ([a-z]+)", page.read_text(), re.MULTILINE):
        assert command in COMMANDS


def test_commands_of_the_preference_recipes_plan(tmp_path: Path) -> None:
    shown = re.findall(r"^    .*\n", (ROOT / "docs" / "upo.md").read_text(), re.MULTILINE)
    # The shell says what it would start: it knows about quotes, loops and continued lines.
    script = "python() { :; }\niter() { printf '%q ' \"$@\"; echo; }\n" + "".join(shown)
    said = subprocess.run(["bash", "-c", script], text=True, capture_output=True, check=True).stdout
    commands = [shlex.split(line) for line in said.splitlines()]
    runs = [overrides for command, *overrides in commands if command in ("run", "plan")]
    assert len(runs) == said.count("recipe=") > 12
    for overrides in runs:
        given = []
        for override in overrides:
            key, _, value = override.partition("=")
            if key in ("data.path", "data.prompts", "data.heldout"):
                (tmp_path / value).touch()
                value = str(tmp_path / value)
            given.append(f"{key}={value}".replace("SCORER", "functional").replace("./my-", "org/my-"))
        composed = compose_recipe(given)
        recipe = check(composed.raw, base=Path.cwd(), locate=composed.locate)
        assert build_plan(recipe, provisional=True).nodes


def test_options_and_recipes_named_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for group in ("recipe", "sampler", "trainer", "data"):
        for name in re.findall(rf"\b{group}=([a-z_]+)\b", text):
            path = builtin_dir() / group / f"{name}.yaml"
            assert path.is_file(), path
            assert yaml.safe_load(path.read_text()) is not None

"""`iter recipes new`: a short recipe that derives from another, with hints that are true."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.recipe.compose import compose_recipe
from itercli.recipe.derive import COLUMN
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check
from itercli.recipe.tree import builtin_dir

SHIPPED = sorted(p.stem for p in builtin_dir().glob("recipe/*.yaml"))


def keys(recipe: str) -> dict[str, str]:
    composed = compose_recipe([f"recipe={recipe}"])
    plan = build_plan(check(composed.raw, base=Path.cwd()), provisional=True)
    return {n.id: n.key for n in plan.nodes.values()}


@pytest.mark.parametrize("base", SHIPPED)
def test_new_recipe_computes_the_same_also_with_all_hints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], base: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "new", "mine", "--from", base]) == 0
    said = capsys.readouterr().out
    path = tmp_path / "recipes" / "recipe" / "mine.yaml"
    assert f"derives from {base}, valid" in said
    assert "iter run recipe=mine" in said
    head, _, hints = path.read_text().partition("leaves a stage out.\n")
    assert "loop:" in hints
    assert max(map(len, hints.splitlines())) > COLUMN
    path.write_text(head + "\n" + "\n".join(line.removeprefix("# ") for line in hints.splitlines()))
    assert keys("mine") == keys(base)


def test_new_recipe_is_a_recipe_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "new", "mine", "--from", "itertl", "--to", "own file.yaml"]) == 0
    assert "iter plan recipe='own file.yaml'" in capsys.readouterr().out
    raw = compose_recipe(["recipe=own file.yaml", "loop.sample.n=9"]).raw
    assert (raw["name"], raw["description"], raw["loop"]["sample"]["n"]) == ("mine", "itertl, changed", 9)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["mine", "--from", "itrtl"], "did you mean itertl?"),
        (["mine"], "--from RECIPE"),
        (["upo", "--from", "itertl"], "recipe upo exists"),
        (["a/b", "--from", "itertl"], "a recipe's name is"),
        (["mine", "--from", "itertl", "--to", "there.yaml"], "there.yaml exists"),
        (["mine", "--from", "itertl", "--to", "mine.txt"], "ends in .yaml"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("mine: 1\n")
    assert main(["recipes", "new", *args]) == 2
    assert said in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["there.yaml"]
    assert Path("there.yaml").read_text() == "mine: 1\n"

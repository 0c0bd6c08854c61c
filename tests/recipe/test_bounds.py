"""Files that are small and become large: refused at once, with place and limit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from itercli.cli.main import main
from itercli.recipe import bounds
from itercli.recipe.compose import compose_recipe, load_yaml
from itercli.recipe.errors import RecipeError
from itercli.recipe.tree import options

HEAD = "# @package _global_\nname: x\n"


def doubled(first: str, line: str, levels: int = 9) -> str:
    """Lines of which each repeats the one before it nine times."""
    return (
        HEAD + first + "".join(line.format(i=i, last=",".join([f"*a{i - 1}"] * 9)) for i in range(1, levels))
    )


def linked(line: str, above: str = "") -> str:
    """Lines of which each refers to the next one, below a key."""
    lines = [line.replace("{i}", str(i)).replace("{n}", str(i + 1)) for i in range(30)]
    rows = "\n".join([*lines, "a30: x"]).split("\n")
    return "\n".join([HEAD, above, *("  " * bool(above) + row for row in rows), ""])


BOMBS = {
    "lists": (doubled("a0: &a0 [x]\n", "a{i}: &a{i} [{last}]\n"), "too large"),
    "mappings": (doubled("a0: &a0 {k: x}\n", "a{i}: &a{i} {{<<: [{last}]}}\n"), "too large"),
    "texts": (doubled(f"a0: &a0 {'x' * 1000}\n", "a{i}: &a{i} [{last}]\n", 5), "too large"),
    "keys": (HEAD + "".join(f"k{i}: 1\n" for i in range(bounds.VALUES)), "too large"),
    "interpolated texts": (linked("a{i}: '${a{n}}${a{n}}'"), "too large"),
    "interpolated nodes": (linked("a{i}: {x: '${a{n}}', y: '${a{n}}'}"), "too large"),
    "relative references": (linked("a{i}: '${.a{n}}${ .a{n} }'", "d:"), "too large"),
    "selected": (linked("a{i}: '${oc.select:a{n}}${oc.select:a{n},x}'"), "too large"),
    "in brackets": (linked("a{i}: '${[a{n}]}${[a{n}]}'"), "too large"),
    "computed names": (linked("a{i}: '${d.${d.n{n}}}${d.${d.n{n}}}'\nn{n}: a{n}", "d:"), "computed"),
    "decoded": (linked("a{i}: '${oc.decode:${a{n}}}${a{n}}'"), "too large|computed"),
    "a row of references": (
        HEAD + "".join(f"a{i}: ${{a{i + 1}}}\n" for i in range(900)) + "a900: x\n", "too large|too deeply"
    ),
    "brackets": (HEAD + "data: " + "[" * 5000 + "]" * 5000 + "\n", "nested too deeply"),
    "braces": (HEAD + "data: " + "{a: " * 5000 + "}" * 5000 + "\n", "nested too deeply"),
    "indents": (HEAD + "data:\n" + "".join(" " * i + "a:\n" for i in range(1, 300)), "nested too deeply"),
    "a circle": (HEAD + "data: &a [*a]\n", "holds itself"),
    "a circle of two": (HEAD + "data: &a {b: &b [*a]}\n", "holds itself"),
    "a long text": (HEAD + f"description: {'x' * bounds.BYTES}\n", "too large"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("way", ["file", "folder", "part"])
def test_bombs_are_refused_before_they_grow(tmp_path: Path, name: str, way: str) -> None:
    text, said = BOMBS[name]
    path = tmp_path / ("tracker" if way == "part" else "recipe") / "bomb.yaml"
    path.parent.mkdir()
    path.write_text(text)
    line = {"file": [f"recipe={path}"], "folder": ["recipe=bomb"], "part": ["recipe=itertl", "tracker=bomb"]}[
        way
    ]
    begun = time.process_time()
    with pytest.raises(RecipeError, match=said) as caught:
        compose_recipe(line, [tmp_path])
    assert time.process_time() - begun < 20  # of minutes to years
    (problem,) = caught.value.problems
    assert "bomb.yaml" in problem.where or (way == "part" and problem.key)


def test_commands_say_it_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMBS["lists"][0])
    for command in (["validate"], ["plan"], ["run"], ["tune"], ["recipes", "show"]):
        argument = str(path) if "show" in command else f"recipe={path}"
        assert main([*command, argument]) == 2, command
        assert "bomb.yaml:" in capsys.readouterr().err or "show" in command
    assert main(["eval", "tiny-rtl", f"suite={path}"]) == 2


def test_what_is_reasonable_passes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    # 300 prompts written out, one of them by an alias, and 50 references to a text.
    prompts = "".join(f"    - {{id: p{i}, prompt: question {i}}}\n" for i in range(300))
    quoted = "'${name}', "
    rest = f"description: &d words\npaper: *d\nplugins: [{quoted * 50}]\n"
    path.write_text(f"{HEAD}data:\n  rows:\n{prompts}{rest}")
    raw = compose_recipe([f"recipe={path}"]).raw
    assert len(raw["data"]["rows"]) == 300
    assert raw["paper"] == "words"
    assert raw["plugins"] == ["x"] * 50


@pytest.mark.parametrize("name", sorted(options("recipe")))
def test_shipped_recipes_are_far_below_the_limits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("VALUES", "REFERENCES", "BYTES"):
        monkeypatch.setattr(bounds, limit, getattr(bounds, limit) // 10)
    compose_recipe([f"recipe={name}"])


@pytest.mark.parametrize("loader", [yaml.SafeLoader, bounds.LOADER])
def test_counting_needs_no_c_library(loader: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LOADER", loader)
    for name in ("lists", "mappings", "brackets", "braces", "a circle"):
        with pytest.raises(RecipeError, match=BOMBS[name][1]):
            bounds.check_bounds(BOMBS[name][0], "f.yaml")
    bounds.check_bounds("a: &a [1]\nb: *a\nc: *unknown\nd: [", "f.yaml")  # broken: whoever loads it says so


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    for raw, said in ((b"\xff\xfe", "not UTF-8"), (b"a: \x00", "not valid YAML")):
        path.write_bytes(raw)
        with pytest.raises(RecipeError, match=said):
            load_yaml(path)

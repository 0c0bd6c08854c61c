"""The recipes' pages say what the recipes say; what they are made from is read right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import recipe_pages

    return recipe_pages


def test_pages_are_up_to_date() -> None:
    script = [sys.executable, SCRIPTS / "recipe_pages.py", "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_an_old_page_is_told_and_mended(
    pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "PAGES", tmp_path / "recipes")
    monkeypatch.setattr(pages, "pages", lambda: {"a.md": "new\n", "b.md": "b\n"})
    monkeypatch.setattr(sys, "argv", ["recipe_pages.py"])
    assert pages.main() == 0
    (tmp_path / "recipes" / "a.md").write_text("old\n")
    (tmp_path / "recipes" / "gone.md").write_text("of a recipe that is gone\n")
    monkeypatch.setattr(sys, "argv", ["recipe_pages.py", "--check"])
    assert pages.main() == 1
    said = capsys.readouterr()
    assert "-old\n+new\n" in said.out
    assert "-of a recipe that is gone" in said.out
    assert "make pages" in said.err
    monkeypatch.setattr(sys, "argv", ["recipe_pages.py"])
    assert pages.main() == 0
    assert {p.name: p.read_text() for p in (tmp_path / "recipes").iterdir()} == {
        "a.md": "new\n",
        "b.md": "b\n",
    }


def test_comments_belong_to_their_keys(pages: ModuleType, tmp_path: Path) -> None:
    from recipe_page_yaml import comments, head

    path = tmp_path / "mine.yaml"
    path.write_text(
        "# @package _global_\n# What it is.\n# Run it:\n#   iter run recipe=mine\n# That is all.\n"
        "name: mine\nloop:\n  # Draws.\n  sample:\n    n: 4   # so many\n    stop: ['# no']  # a comment\n"
        "  score: {of: sample, scorer: x}  # judges\n  train: &t   # learns\n    lr: 1\n  again: *t\n"
    )
    assert head(path) == "What it is.\nRun it:\n\n    iter run recipe=mine\n\nThat is all."
    assert comments(path) == {
        "loop.sample": "Draws.",
        "loop.sample.n": "so many",
        "loop.sample.stop": "a comment",
        "loop.score": "judges",
        "loop.train": "learns",
    }


def test_options_say_whether_they_change_results(pages: ModuleType) -> None:
    from recipe_page_schema import option

    raw = {
        "training": {},
        "loop": {"build": {"uses": "select", "selector": {"name": "best", "n": 2}}, "s": {"uses": "sample"}},
    }
    batch, micro = (option(["training", key], raw) for key in ("batch_size", "micro_batch_size"))
    assert batch
    assert micro
    assert (batch.changes, micro.changes) == (True, False)
    inner = option(["loop", "build", "selector", "n"], raw)
    assert inner
    assert (inner.default, inner.meaning) == ("1", "Distinct completions per prompt at most.")
    once = option(["loop", "s", "once"], raw)
    assert once
    assert once.changes
    assert option(["loop", "s", "nonsense"], raw) is None


def test_the_picture_shows_what_the_next_iteration_takes(pages: ModuleType) -> None:
    from recipe_page import Page

    lines = Page("spin", ["spin"]).text().splitlines()
    assert '    loop_train -. "policy" .-> loop_evaluate' in lines
    assert '    loop_train -. "policy, next iteration" .-> loop_sample' in lines
    assert "    loop_sample --> loop_pairs" in lines
    assert "    m_policy -.-> loop_sample" in lines

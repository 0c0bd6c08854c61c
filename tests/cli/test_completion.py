"""Completion: what is offered where, and that real shells offer it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from itercli.cli import candidates
from itercli.cli.completion import SCRIPTS
from itercli.engine.store import Store
from tests.engine.test_garbage import make, make_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one run, an `iter` in PATH, and a cache of its own."""
    store = Store(tmp_path / "runs" / ".store")
    nodes = {"iteration-01/sample": ("trajectories", "t1"), "iteration-01/train": ("model", "m1")}
    for kind, key in nodes.values():
        make(store, kind, key)
    make_run(tmp_path / "runs", "itertl-abc", nodes)
    command = tmp_path / "bin" / "iter"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m itercli "$@"\n')
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("re", {"resume", "recipes", "report"}),
        ("show --gr", {"--groups"}),
        ("show ", {"itertl-abc"}),
        ("export it", {"itertl-abc"}),
        ("resume --runs nowhere ", set()),
        ("samples itertl-abc --stage ", {"sample", "train"}),
        ("samples --stage s", {"sample"}),
        ("recipes sh", {"show"}),
        ("recipes show upo", {"upo"}),
        ("recipes new mine --from itertl_m", {"itertl_mle"}),
        ("run recipe=upo", {"recipe=upo"}),
        ("run trainer=", {"trainer=full", "trainer=lora"}),
        ("run recipe=upo scale=", {"scale=paper"}),
        ("eval suite=rtl", {"suite=rtl_heldout", "suite=rtllm"}),
        ("models p", {"pull"}),
        ("completion z", {"zsh"}),
        ("schema --stage judge", {"judge", "judge_pairs"}),
        ("nonsense x", set()),
        ("samples --offset ", set()),
    ],
)
def test_what_is_offered(folder: Path, line: str, offered: set[str]) -> None:
    assert {word for word, _ in candidates.complete(line.split(" "))} == offered


def test_keys_of_a_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(word: str, *others: str) -> dict[str, str]:
        return dict(candidates.complete(["run", "recipe=itertl", *others, word]))

    assert {"loop.", "training.", "seed=", "trainer="} <= offered("").keys()
    assert "trainer=" not in offered("", "trainer=lora")
    assert {"loop.sample.", "loop.train="} <= offered("loop.").keys()
    assert offered("loop.sample.n") == {"loop.sample.n=": "Completions per prompt."}
    assert offered("loop.score.scorer.") != {}
    assert offered("loop.train.init_from=") == {
        "loop.train.init_from=base": "",
        "loop.train.init_from=previous": "",
    }
    assert offered("loop.sample.role=") == {"loop.sample.role=policy": ""}
    assert "training.lora.r=" in offered("training.lora.")
    assert "loop.build.selector=best" in offered("loop.build.selector=b")

    def not_again(*args: object) -> None:
        raise AssertionError("composed again")

    with monkeypatch.context() as patched:
        patched.setattr("itercli.recipe.compose.compose_recipe", not_again)
        assert offered("loop.sample.n")
        own = folder / "recipes" / "recipe"
        own.mkdir(parents=True)
        (own / "itertl.yaml").write_text("name: mine\n")  # another recipe now, and one that is wrong
        assert offered("loop.sample.n") == {}


def test_names_need_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys; from itercli.cli.candidates import complete; complete(['run', 'recipe=']); "
        "complete(['show', '']); "
        "print([m for m in ('hydra', 'pyarrow', 'torch', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


BASH = "source completion.bash; COMP_LINE='{line}' COMP_POINT={point}; _iter; echo \"${{COMPREPLY[@]}}\""


def shell(name: str, script: str) -> list[str]:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    source = Path(f"completion.{name}")
    source.write_text(SCRIPTS[name])
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    done = subprocess.run([name, *options, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("iter run recipe=upo", "upo"),  # bash divides words at =
        ("iter sh", "show"),
        ("iter show ", "itertl-abc"),
        ("iter run recipe=itertl loop.sample.n", "loop.sample.n="),
    ],
)
def test_bash(folder: Path, line: str, offered: str) -> None:
    assert shell("bash", BASH.format(line=line, point=len(line))) == [offered]


def test_bash_where_words_are_not_divided(folder: Path) -> None:
    line = "iter run recipe=upo"
    assert shell("bash", "COMP_WORDBREAKS=' ';" + BASH.format(line=line, point=len(line))) == ["recipe=upo"]


def test_zsh(folder: Path) -> None:
    script = """
        compdef() { }; compadd() { print -l -- "${@:#-*}" }
        source completion.zsh
        words=(iter run recipe=up) CURRENT=3 PREFIX=recipe=up; _iter
        words=(iter show '') CURRENT=3 PREFIX=; _iter
    """
    assert shell("zsh", script) == ["recipe=upo", "itertl-abc"]


def test_fish(folder: Path) -> None:
    lines = ("iter run recipe=up", "iter show it", "iter sho")
    script = "source completion.fish;" + ";".join(f"complete -C '{line}'" for line in lines)
    assert [w for w in shell("fish", script) if w.startswith(("recipe", "itertl", "show"))] == [
        "recipe=upo", "itertl-abc", "show",
    ]  # fmt: skip

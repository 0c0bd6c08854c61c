"""The tutorial is true: its files fit together, its commands run, the model gets better."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from itercli import registry
from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check
from itercli.records import Message, Prompt, Trajectory

PAGE = (Path(__file__).parents[1] / "docs" / "your_own_loop.md").read_text()
FILES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^    ((?:iter|python|timeout) .*?) *(?:#.*)?$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the page's files; the scripts beside this Python come first in PATH."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def sh(command: str) -> str:
    done = subprocess.run(command, shell=True, text=True, capture_output=True, timeout=1200, check=False)
    killed = command.startswith("timeout") and done.returncode == 137
    assert killed or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_it_takes_sixty_lines() -> None:
    assert set(FILES) == {"make_data.py", "logic_scorer.py", "logic.yaml"}
    assert sum(bool(line.strip()) for text in FILES.values() for line in text.splitlines()) <= 60


def test_files_fit_together(folder: Path) -> None:
    sh("python make_data.py")
    train, held = ((folder / f"{n}.jsonl").read_text().splitlines() for n in ("train", "heldout"))
    assert (len(train), len(held)) == (48, 24)
    assert not {json.loads(x)["formula"] for x in train} & {json.loads(x)["formula"] for x in held}
    plan = build_plan(check(compose_recipe(["recipe=logic.yaml"]).raw, base=folder))
    assert f"{len(plan.nodes)} stages" == "22 stages"


@pytest.mark.parametrize(
    ("formula", "outcome"),
    [
        ("assign y = (~a & b) | c;", "right"),
        ("assign y = c | ~(a | ~b);", "right"),
        ("assign y = (a & b) | c;", "wrong"),
        ("assign y = (a & b;", "syntax"),
        ("assign y = a(b);", "syntax"),
        ("assign y = ab;", "syntax"),
        ("assign y = __import__('os').abort();", "no_formula"),
        ("assign y = a; assign y = b;", "no_formula"),
        ("", "no_formula"),
    ],
)
def test_scorer(folder: Path, formula: str, outcome: str) -> None:
    registry.load_plugin(folder / "logic_scorer.py")
    scorer = registry.find("scorer", "truth_table")
    assert scorer is not None
    asked = [Message(role="user", content="y?")]
    prompt = Prompt(id="a", messages=asked, meta={"formula": "(~a & b) | c"})
    drawn = Trajectory(
        prompt_id="a", index=0, seed=1, completion=formula, finish="stop", tokens=1, policy="policy@0"
    )
    score = scorer().open().score(prompt, drawn)  # type: ignore[attr-defined]
    assert (score.outcome, score.passed) == (outcome, outcome == "right")


@pytest.mark.slow
def test_commands_run_and_the_model_gets_better(folder: Path) -> None:
    said = {command: sh(command) for command in COMMANDS}
    assert len(COMMANDS) == 11
    assert "ok       logic.yaml" in said["iter validate logic.yaml"]
    assert "nothing to do" in said["iter run recipe=logic.yaml"]  # the second time
    assert "policy@2" in said["iter show"]
    assert "failed (" in next(text for command, text in said.items() if "--failed" in command)
    sweep = next(text for command, text in said.items() if " -m " in command)
    assert "2 of 2 points finished" in sweep
    assert "8 to reuse, 8 to run" in sweep

    (run,) = (r["name"] for r in json.loads(sh("iter runs --json"))["runs"] if r["iterations"]["total"] == 2)
    values = json.loads(sh(f"iter show {run} --json"))["metrics"]["evaluate.pass@1"]
    assert values["2"]["low"] > values["0"]["high"]
    # Another CPU may draw other samples; what the page quotes must not be far off.
    for iteration, quoted in re.findall(r"^ *(start|\d)  (0\.\d+) \(", PAGE, re.MULTILINE):
        measured = values["0" if iteration == "start" else iteration]["value"]
        assert measured == pytest.approx(float(quoted), abs=0.1)

"""`iter clean` on real runs: what goes, what stays, and what the same command does afterwards."""

from __future__ import annotations

import json
import shutil

import pytest

from itercli.cli.main import main
from itercli.engine.runs import Run
from tests.conftest import Project


def test_clean_frees_what_is_not_needed_and_the_same_command_reuses_the_rest(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.path)
    project.run_toy("--name", "a")
    project.run_toy("--name", "b", "training.lr=0.2", "iterations=1")

    def clean(*args: str) -> str:
        assert main(["clean", *args]) == 0
        return capsys.readouterr().out

    assert "nothing to remove" in clean()
    shutil.rmtree("runs/b")
    shown = clean("--keep-last", "1")  # no terminal here
    assert "unreferenced" in shown
    assert "nothing was removed" in shown
    planned = json.loads(clean("--json", "--keep-last", "1", "--dry-run"))
    assert planned["schema"] == "itercli.clean/1"
    assert planned["removed"] is False
    done = json.loads(clean("--json", "--keep-last", "1", "--yes"))
    assert done["removed"] is True
    assert done["items"] == planned["items"]
    assert done["left"] == []
    models = [i for i in done["items"] if i["category"] == "models"]
    best = json.loads(_out(capsys, "show", "a", "--json"))["best"]["iteration"]
    assert [i["why"].partition("/")[0] for i in models] == ([] if best == 1 else ["iteration-01"])
    assert "nothing to remove" in clean("--keep-last", "1")

    assert "finished already, nothing to do" in project.run_toy("--name", "a").stdout


def test_removed_model_is_made_again_when_a_stage_needs_it(project: Project) -> None:
    """Iteration 1's model is gone; then a changed second iteration has to train from it."""
    project.run_toy("--name", "a")
    run = Run(project.path / "runs" / "a")
    first = run.entry("iteration-01/train")
    assert first is not None
    first.remove_files(["model/weights/config.json"])
    shutil.rmtree(first.path / "model")
    assert "model removed" in project.iter("show", "a").stdout
    planned = json.loads(project.iter("plan", "recipe=toy.yaml", "--name", "a", "--json").stdout)
    assert {s["action"] for s in planned["stages"]} == {"reuse"}
    evaluation = run.entry("iteration-01/evaluate.sample")
    assert evaluation is not None
    shutil.rmtree(evaluation.path)
    again = project.run_toy("--name", "a")
    # The model, and what was drawn from it; both come out as before, so all else is reused.
    assert "a: 2 stages run" in again.stdout
    assert not first.missing_model()


def _out(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 0
    return capsys.readouterr().out

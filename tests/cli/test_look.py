"""`iter runs`, `iter show` and `iter samples` on finished, failed, running and killed runs."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from itercli.cli.main import main
from itercli.engine.runs import Run
from itercli.report.sample_view import show_page
from itercli.report.samples import FIELDS, Page
from itercli.report.text import clean, clip
from tests.conftest import Project, make_project

Iter = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three runs: `first` finished, `failed` broke while it sampled, `third` reuses most of `first`."""
    project = make_project(tmp_path_factory.mktemp("look"))
    project.run_toy("--name", "first", "iterations=1")
    broken = ("sampler.fault=raise", "loop.sample.n=3", "seed=1")  # else `first` would lend it rows
    assert project.run_toy("--name", "failed", *broken, check=False).returncode == 1
    project.run_toy("--name", "third")
    return project


@pytest.fixture
def look(made: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iter:
    """Runs a command in this process; gives its output, or what it says on failure."""
    monkeypatch.chdir(made.path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*args: str, code: int = 0) -> str:
        assert main(args) == code
        out = capsys.readouterr()
        return out.out if code == 0 else out.err

    return call


def data(look: Iter, *args: str) -> dict[str, Any]:
    return json.loads(look(*args, "--json"))


# -- runs ---------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(look: Iter) -> None:
    listed = data(look, "runs")
    assert listed["schema"] == "itercli.runs/1"
    assert [r["name"] for r in listed["runs"]] == ["third", "failed", "first"]
    third, failed, _ = listed["runs"]
    assert third["state"] == "finished"
    assert third["iterations"] == {"done": 2, "total": 2}
    headline = third["headline"]
    assert (headline["metric"], headline["first"]["iteration"], headline["last"]["iteration"]) == (
        "evaluate.pass@1", 1, 2,
    )  # fmt: skip
    assert failed["state"] == "failed"
    assert failed["headline"] is None
    assert "toy trouble" in failed["error"]
    assert "\n" not in failed["error"]
    text = look("runs")
    assert "pass@1 0." in text
    assert " -> " in text
    assert "toy trouble" in text
    assert max(map(len, text.splitlines())) <= 80


def test_no_runs_is_not_an_error(look: Iter, tmp_path: Path) -> None:
    assert data(look, "runs", "--runs", str(tmp_path))["runs"] == []
    assert "iter run recipe=" in look("show", "--runs", str(tmp_path), code=1)


def test_a_running_run_without_a_holder_died(look: Iter, made: Project) -> None:
    run = Run(made.path / "runs" / "killed")
    shutil.copytree(made.path / "runs" / "failed", run.path, symlinks=True)
    try:
        info = {k: v for k, v in run.info.items() if k != "error"}
        run.save({**info, "state": "running"})
        assert next(r for r in data(look, "runs")["runs"] if r["name"] == "killed")["state"] == "died"
        shown = look("show", "killed")
        assert "died" in shown
        assert "go on with: iter resume killed" in shown
        with run.lock():
            assert next(r for r in data(look, "runs")["runs"] if r["name"] == "killed")["state"] == "running"
            assert "go on with" not in look("show", "killed")
    finally:
        shutil.rmtree(run.path)


# -- show ---------------------------------------------------------------------------------


def test_show_takes_the_newest_run(look: Iter) -> None:
    shown = data(look, "show")
    assert shown["schema"] == "itercli.show/1"
    assert shown["run"]["name"] == "third"
    assert shown["run"]["seed"] == 0
    assert shown["run"]["resume"] is None
    assert set(shown["metrics"]["evaluate.pass@1"]["2"]) == {"value", "low", "high", "prompts"}
    assert shown["groups"]["evaluate"]["by"] == "template"
    assert set(shown["groups"]["evaluate"]["iterations"]["1"]) == {"t0", "t1"}


def test_show_says_what_was_reused_and_from_where(look: Iter) -> None:
    stages = {s["node"]: s for s in data(look, "show")["stages"]}
    score = stages["iteration-01/score"]
    assert (score["state"], score["reused"], score["made_by"]) == ("done", True, "first")
    assert sum(score["counts"].values()) == score["rows"] == 16
    new = stages["iteration-02/score"]
    assert (new["reused"], new["made_by"]) == (False, "third")
    assert not any(s["reused"] for s in data(look, "show", "first")["stages"])


def test_show_traces_models_to_data(look: Iter) -> None:
    lineage = {m["version"]: m for m in data(look, "show")["lineage"]}
    assert list(lineage) == ["policy@0", "policy@1", "policy@2"]
    second = lineage["policy@2"]
    assert second["made_by"] == "iteration-02/train"
    assert second["models"] == {"start": "policy@1"}
    assert second["examples"] == [{"node": "iteration-02/build", "rows": 8}]
    assert second["drawn"] == [{"node": "iteration-02/sample", "models": ["policy@1"]}]
    assert Path(second["path"]).is_dir()
    text = " ".join(look("show").split())
    assert (
        "trained from policy@1 on iteration-02/build (8 examples) drawn in iteration-02/sample by policy@1"
        in text
    )


def test_show_names_the_best_iteration_and_its_model(look: Iter) -> None:
    shown = data(look, "show")
    values = {int(i): v["value"] for i, v in shown["metrics"]["evaluate.pass@1"].items()}
    best = shown["best"]
    assert (best["metric"], best["value"]) == ("evaluate.pass@1", max(values.values()))
    assert values[best["iteration"]] == best["value"]
    version = f"policy@{best['iteration']}"  # evaluated after the training
    paths = {m["version"]: m["path"] for m in shown["lineage"]}
    assert best["models"] == {"policy": {"version": version, "path": paths[version]}}
    assert f"best: iteration {best['iteration']}: evaluate.pass@1 0." in look("show")
    assert data(look, "show", "failed")["best"] is None


def test_show_breaks_metrics_down_by_group(look: Iter) -> None:
    assert "evaluate.pass@1 by template" not in look("show")
    assert "evaluate.pass@1 by template" in look("show", "--groups")


def test_show_a_failed_run(look: Iter) -> None:
    shown = data(look, "show", "fail")
    sample = next(s for s in shown["stages"] if s["node"] == "iteration-01/sample")
    assert (sample["state"], sample["rows"], sample["total"]) == ("failed", 3, 24)
    assert next(s for s in shown["stages"] if s["node"] == "iteration-02/train")["state"] == "waiting"
    assert shown["run"]["resume"] == "iter resume failed"
    text = look("show", "runs/failed")
    assert "toy trouble" in text
    assert "3/24" in text
    assert "go on with: iter resume failed" in text
    assert max(map(len, text.splitlines())) <= 80


def test_show_notices_a_missing_file(look: Iter, made: Project) -> None:
    rows = made.path / "runs" / "third" / "iteration-02" / "build" / "rows.parquet"
    aside = rows.read_bytes()
    rows.unlink()
    try:
        stages = {s["node"]: s for s in data(look, "show")["stages"]}
        assert stages["iteration-02/build"]["state"] == "damaged"
        assert "rows.parquet is damaged: it is missing" in look("samples", "--stage", "build", code=1)
    finally:
        rows.write_bytes(aside)


def test_unknown_run(look: Iter) -> None:
    assert "Did you mean third?" in look("show", "thrid", code=1)
    assert "2 runs begin with 'f'" in look("samples", "f", code=1)


# -- samples ------------------------------------------------------------------------------


def test_samples_default_to_the_last_scores(look: Iter) -> None:
    page = data(look, "samples")
    assert page["schema"] == "itercli.samples/1"
    assert (page["node"], page["kind"], page["finished"]) == ("iteration-02/evaluate.score", "scores", True)
    assert page["rows"] == page["matched"] == 16
    assert len(page["samples"]) == 5
    sample = page["samples"][0]
    assert set(sample) == set(FIELDS)
    assert sample["prompt"] == [{"role": "user", "content": "task 0"}]
    assert sample["tokens"] == 3
    assert sample["policy"] == "policy@2"
    assert data(look, "samples", "--iteration", "1")["node"] == "iteration-01/evaluate.score"


def test_samples_conditions_combine(look: Iter) -> None:
    failed = data(look, "samples", "--stage", "score", "--iteration", "1", "--failed", "-n", "99")
    assert failed["node"] == "iteration-01/score"
    assert failed["matched"] == failed["outcomes"]["mismatch"] == len(failed["samples"])
    assert {s["passed"] for s in failed["samples"]} == {False}
    passed = data(look, "samples", "--stage", "iteration-01/score", "--outcome", "pass", "--prompt", "p[01]")
    assert passed["node"] == "iteration-01/score"
    assert {s["prompt_id"] for s in passed["samples"]} <= {"p0", "p1"}
    last = data(look, "samples", "-n", "1", "--offset", "15")["samples"]
    assert [(s["prompt_id"], s["index"]) for s in last] == [("p7", 1)]


@pytest.mark.parametrize(
    ("stage", "kind"), [("tasks", "prompts"), ("sample", "trajectories"), ("build", "examples")]
)
def test_samples_of_every_kind(look: Iter, stage: str, kind: str) -> None:
    page = data(look, "samples", "--stage", stage)
    assert page["kind"] == kind
    if kind == "examples":
        assert page["samples"][0]["example"]["responses"]
    else:
        assert page["samples"][0]["prompt"][0]["content"] == "task 0"
    text = look("samples", "--stage", stage)
    assert "task 0" in text
    assert max(map(len, text.splitlines())) <= 80


def test_samples_of_an_unfinished_stage(look: Iter, made: Project) -> None:
    page = data(look, "samples", "failed", "--stage", "sample")
    assert page["finished"] is False
    assert page["rows"] == 3
    assert page["samples"][0]["prompt"][0]["content"] == "task 0"
    journal = made.path / "runs" / "failed" / "iteration-01" / "sample" / "journal.jsonl"
    whole = journal.read_bytes()
    try:
        journal.write_bytes(whole + b'{"prompt_id": "p7", "ind')
        assert data(look, "samples", "failed", "--stage", "sample")["rows"] == 3
    finally:
        journal.write_bytes(whole)
    assert "unfinished" in look("samples", "failed", "--stage", "sample")


def test_samples_say_what_there_is_when_nothing_matches(look: Iter) -> None:
    text = look("samples", "--outcome", "syntax")
    assert "0 rows match" in text
    assert "mismatch (" in text
    assert "evaluate.score" in text


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--stage", "scroe"], "Did you mean score?"),
        (["--stage", "train"], "makes model"),
        (["--stage", "sample", "--failed"], "no verdicts; score stages: score, evaluate.score"),
        (["--iteration", "7"], "no iteration 7"),
        (["--iteration", "1", "--stage", "tasks"], "not in iteration 1, but in 0"),
        (["failed", "--iteration", "2"], "there are rows in: before/tasks, iteration-01/sample"),
    ],
)
def test_samples_that_are_not_there(look: Iter, args: list[str], says: str) -> None:
    assert says in look("samples", *args, code=1)


# -- untrusted text -----------------------------------------------------------------------


@given(st.text() | st.text(st.sampled_from("\x1b[]0;31mJ\x07\\\x9b\x9d?ab\n")))
def test_cleaned_text_has_no_controls(text: str) -> None:
    cleaned = clean(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in cleaned if c not in "\n\t")
    assert clean(cleaned) == cleaned


def test_clean_takes_whole_escape_sequences() -> None:
    assert clean("a\x1b[31;1mb\x1b]0;title\x07c\x1b]8;;http://x\x1b\\d\x9b2Je\rf\u202eg") == "abcde\nfg"


def test_clip_bounds_lines_and_characters() -> None:
    assert clip("a\nb\nc", 2) == ("a\nb", 2)
    assert clip("x" * 1000, 1) == ("x" * 200, 800)
    assert clip("x" * 1000, None) == ("x" * 1000, 0)


def test_hostile_samples_are_shown_as_text() -> None:
    evil = "[bold red]x[/] [/nope] \x1b[2J\x1b]0;pwned\x07 module m; endmodule"
    sample = dict.fromkeys(FIELDS) | {
        "prompt_id": evil, "index": 0, "prompt": [{"role": "user", "content": evil}], "completion": evil,
        "answer": evil + "!", "value": 0.0, "passed": False, "outcome": "[red]", "message": evil,
        "policy": "policy@0",
    }  # fmt: skip
    page = Page("iteration-01/score", "scores", 1, True, 1, 1, {"[red]": 1}, [sample])
    for terminal in (False, True):
        out = io.StringIO()
        console = Console(
            file=out, width=80, force_terminal=terminal, color_system="standard" if terminal else None
        )
        show_page(console, page, "run", offset=0)
        assert "\x1b[2J" not in out.getvalue()
        assert "\x1b]0" not in out.getvalue()
        if not terminal:
            assert out.getvalue().count("[bold red]x[/] [/nope]") == 5
            assert "([red])" in out.getvalue()


def test_looking_is_light(made: Project) -> None:
    code = (
        "import sys; from itercli.cli.main import main\n"
        "for a in sys.argv[1:]: assert main(a.split()) == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'trl', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    args = ["runs", "show", "show --groups --json"]
    subprocess.run([sys.executable, "-c", code, *args], cwd=made.path, check=True, capture_output=True)

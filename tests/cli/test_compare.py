"""`iter compare` and `iter show --plot` as commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.sweep.record import FOLDER, Sweep, SweepPoint
from tests.report.finished import finished

Iter = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, the last two of them points of a sweep whose third one has not begun."""
    path = tmp_path_factory.mktemp("compare")
    for n, (name, of) in enumerate({"first": "ab", "second": "abcd", "third": "a"}.items()):
        verdicts = {i: {p: [p in of[: i + 1]] for p in "abcdef"} for i in range(3)}
        finished(path / "runs", name, verdicts, config={"training": {"lr": n / 10}})
    points = [SweepPoint(name, {"training.lr": lr}, []) for name, lr in (("second", "0.1"), ("third", "0.2"))]
    points.append(SweepPoint("fourth", {"training.lr": "0.3"}, []))
    sweep = Sweep(path / "runs" / FOLDER / "grid", "hand", [], points)
    sweep.path.mkdir(parents=True)
    sweep.save()
    return path


@pytest.fixture
def look(made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iter:
    """Runs a command in this process; gives its output, or what it says on failure."""
    monkeypatch.chdir(made)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*args: str, code: int = 0) -> str:
        assert main(args) == code
        out = capsys.readouterr()
        return out.out if code == 0 else out.err

    return call


def test_the_first_run_is_the_baseline_unless_one_is_named(look: Iter) -> None:
    found = json.loads(look("compare", "first", "sec", "--json"))
    assert found["schema"] == "itercli.compare/1"
    assert (found["baseline"], found["headline"], found["at"]) == ("first", "evaluate.pass@1", "last")
    assert [run["name"] for run in found["runs"]] == ["first", "second"]
    assert found["paired"][0]["up"] == 1  # c; the third letter comes in iteration 2
    other = json.loads(look("compare", "first", "runs/second", "--to", "third", "--iteration", "1", "--json"))
    assert [run["name"] for run in other["runs"]] == ["third", "first", "second"]
    assert {pair["iteration"] for pair in other["paired"]} == {1}
    assert json.loads(look("compare", "first", "--to", "second", "--json"))["baseline"] == "second"
    assert "minus A, paired by prompt" in look("compare", "first", "second")


def test_a_sweep_is_compared_with_what_it_varied(look: Iter) -> None:
    found = json.loads(look("compare", "--sweep", "grid", "--json"))
    assert [(run["name"], run["swept"]) for run in found["runs"]] == [
        ("second", {"training.lr": "0.1"}), ("third", {"training.lr": "0.2"}),
    ]  # fmt: skip
    text = look("compare", "--sweep", "gr", "--to", "first")
    values = [line.split()[:2] for line in text.splitlines() if "(start)" in line]
    assert values == [["A", "0.0"], ["B", "0.1"], ["C", "0.2"]]  # the first one's is in its recipe


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["first"], 1, "name two runs or more, here it is first"),
        (["first", "runs/first"], 1, "name two runs or more"),
        ([], 1, "name two runs or more, here it is none"),
        (["first", "secnd"], 1, "Did you mean second?"),
        (["--sweep", "grdi"], 1, "Did you mean grid?"),
        (["first", "second", "--metric", "evaluate.pass@2"], 1, "Did you mean evaluate.pass@1?"),
        (["first", "second", "--iteration", "9"], 1, "it has: 0, 1, 2"),
        (["first", "second", "--iteration", "lst"], 2, "a number, last or best"),
    ],
)
def test_mistakes_say_what_would_be_right(look: Iter, args: list[str], code: int, says: str) -> None:
    assert says in look("compare", *args, code=code)


def test_comparing_is_light(made: Path) -> None:
    code = (
        "import sys; from itercli.cli.main import main\n"
        "for a in sys.argv[1:]: assert main(a.split()) == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'trl', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    args = ["compare first second", "show first --plot"]
    subprocess.run([sys.executable, "-c", code, *args], cwd=made, check=True, capture_output=True)


def test_show_plots_the_headline_or_what_is_named(look: Iter) -> None:
    drawn = look("show", "first", "--plot")
    assert "evaluate.pass@1" in drawn.splitlines()[0]
    assert drawn.count("●") == 3
    assert "\x1b" not in drawn
    assert max(map(len, drawn.splitlines())) <= 80
    assert look("show", "first", "--plot", "--metric", "pass@1") == drawn
    assert "Did you mean" in look("show", "first", "--plot", "--metric", "pas@1", code=1)
    assert "goes with --plot" in look("show", "first", "--metric", "pass@1", code=2)
    assert "exclude each other" in look("show", "first", "--plot", "--json", code=2)


def test_a_run_without_metrics_has_nothing_to_plot(look: Iter, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "run.json").write_text("{}")
    assert "no metrics to plot yet" in look("show", str(empty), "--plot", code=1)

"""Runs beside each other: what is paired with what, and what is said of the rest."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from itercli.engine.runs import Run
from itercli.engine.store import ROWS
from itercli.report.compare import compare
from itercli.report.compare_view import render
from tests.report.finished import Verdicts, finished


def passed(of: str, ids: str = "abcdefgh") -> Verdicts:
    """One completion a prompt: those named in `of` passed."""
    return {i: [i in of] for i in ids}


def shown(content: dict[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    render(console, content)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two runs with the same start; the second one is better in the end."""
    first = finished(tmp_path, "first", {0: passed("a"), 1: passed("abc"), 2: passed("ab")})
    config = {"training": {"lr": 0.2}}
    second = finished(
        tmp_path, "second", {0: passed("a"), 1: passed("b"), 2: passed("acdefg")}, config=config
    )
    return [first, second]


def test_prompts_are_paired_at_the_last_iteration(runs: list[Run]) -> None:
    content = compare(runs)
    assert json.loads(json.dumps(content))["baseline"] == "first"
    (pair,) = content["paired"]
    assert (pair["metric"], pair["run"], pair["iteration"], pair["baseline_iteration"]) == (
        "evaluate.pass@1", "second", 2, 2,
    )  # fmt: skip
    assert (pair["prompts"], pair["up"], pair["down"], pair["equal"], pair["test"]) == (8, 5, 1, 2, "mcnemar")
    assert pair["p"] == pair["p_holm"] == 2 * (1 + 6) / 2**6
    assert pair["difference"]["value"] == 0.5
    assert pair["difference"]["low"] < 0.5 < pair["difference"]["high"]
    assert pair["first_sample"] is None
    assert pair["left_out"] == {"only_run": 0, "only_baseline": 0, "other_content": 0, "no_value": 0}
    assert content["config"] == [{"key": "training", "values": {"second": {"lr": 0.2}}, "also": []}]
    text = shown(content)
    assert "+0.500" in text
    assert "8 5 1 0.219 McNemar" in text
    assert "only in B: training" in text


def test_the_iteration_can_be_chosen(runs: list[Run]) -> None:
    def pair(at: int | str) -> tuple[Any, ...]:
        (found,) = compare(runs, at=at)["paired"]
        return found["baseline_iteration"], found["iteration"], found["up"], found["down"]

    assert pair(1) == (1, 1, 0, 2)
    assert pair("best") == (1, 2, 4, 1)
    assert pair(0) == (0, 0, 0, 0)
    assert "best: chosen by the same prompts" in shown(compare(runs, at="best"))
    with pytest.raises(
        LookupError, match=r"first has no value of evaluate.pass@1 at iteration 7; it has: 0, 1, 2"
    ):
        compare(runs, at=7)


def test_a_run_without_the_iteration_is_not_paired(tmp_path: Path, runs: list[Run]) -> None:
    short = finished(tmp_path, "short", {0: passed("a")})
    content = compare([*runs, short], at=2)
    assert [pair["reason"] for pair in content["paired"]] == [None, "no value in short"]
    assert content["runs"][2]["iteration"] is None
    assert "evaluate.pass@1 of C: not paired: no value in short" in shown(content)


def test_the_shared_prompts_are_paired_where_sets_overlap(tmp_path: Path) -> None:
    one = finished(tmp_path, "one", {1: passed("ab", "abcdef")})
    two = finished(tmp_path, "two", {1: passed("bdx", "abcdxyz")})
    content = compare([one, two])
    (pair,) = content["paired"]
    assert (pair["prompts"], pair["up"], pair["down"]) == (4, 1, 1)  # d up, a down
    assert pair["left_out"] == {"only_run": 3, "only_baseline": 2, "other_content": 0, "no_value": 0}
    assert "prompts left out: 3 only here, 2 only in the first" in shown(content)


def test_the_same_id_with_another_task_is_not_paired(tmp_path: Path) -> None:
    one = finished(tmp_path, "one", {1: passed("ab")})
    two = finished(tmp_path, "two", {1: passed("ab")}, task="other {}")
    content = compare([one, two])
    (pair,) = content["paired"]
    assert (pair["p"], pair["reason"]) == (None, "no prompt in common")
    assert pair["left_out"]["other_content"] == 8
    assert "8 same id, other content" in shown(content)


def test_several_completions_take_the_mean_and_the_first(tmp_path: Path) -> None:
    def verdicts(**of: str) -> Verdicts:
        return {prompt: [v == "1" for v in given] for prompt, given in of.items()}

    both = ("pass@1", "pass@2")
    one = finished(tmp_path, "one", {1: verdicts(a="10", b="00", c="11", d="01")}, metrics=both)
    two = finished(tmp_path, "two", {1: verdicts(a="11", b="01", c="11", d="10")}, metrics=both)
    mean, either = compare([one, two])["paired"]
    assert (mean["test"], mean["up"], mean["down"], mean["difference"]["value"]) == ("sign_flip", 2, 0, 0.25)
    assert mean["p"] == 2 / 4
    assert mean["first_sample"] == {"up": 1, "down": 0, "p": 1.0}  # d
    # pass@2 of two completions is right or wrong: whether either passed
    assert (either["test"], either["up"], either["down"], either["first_sample"]) == ("mcnemar", 1, 0, None)
    assert "McNemar on the first sample of each prompt: 1 up, 0 down, p 1.000" in shown(compare([one, two]))


def test_different_recipes_are_compared_in_what_they_share(tmp_path: Path) -> None:
    one = finished(tmp_path, "one", {1: passed("ab")}, metrics=["pass@1", "mean_score"], recipe="these")
    two = finished(tmp_path, "two", {1: passed("b")}, recipe="those")
    three = finished(tmp_path, "three", {1: passed("b")}, stage="other", recipe="third")
    content = compare([one, two])
    assert list(content["metrics"]) == ["evaluate.pass@1"]
    assert content["not_shared"] == {"evaluate.mean_score": ["one"]}
    assert "not of all runs: evaluate.mean_score (A)" in shown(content)
    nothing = compare([one, three])
    assert (nothing["headline"], nothing["metrics"], nothing["paired"], nothing["tests"]) == (None, {}, [], 0)
    text = shown(nothing)
    assert "no metric in common" in text
    assert "only in B: loop.other" in text
    assert "peak memory" in text


def test_what_was_measured_in_another_way_is_named(tmp_path: Path) -> None:
    evaluate = {
        "uses": "evaluate",
        "role": "policy",
        "prompts": {"name": "other"},
        "n": 1,
        "temperature": 0.1,
    }
    one = finished(tmp_path, "one", {1: passed("ab")})
    two = finished(tmp_path, "two", {1: passed("ab")}, config={"loop": {"evaluate": evaluate}})
    content = compare([one, two])
    assert content["paired"][0]["measured"] == ["evaluate.temperature"]
    assert "measured in another way: evaluate.temperature" in shown(content)


def test_many_runs_have_a_line_each_and_corrected_p(tmp_path: Path) -> None:
    better = ["ab", "abcdefgh", "abcdefg", "a", "b"]
    runs = [
        finished(tmp_path, f"r{n}", {0: passed("a"), 1: passed(of)}, config={"training": {"lr": n}, "k": n})
        for n, of in enumerate(better)
    ]
    content = compare(runs, swept=[{"training.lr": str(n)} for n in range(5)])
    ps = [pair["p"] for pair in content["paired"]]
    assert ps == [2 / 2**6, 2 / 2**5, 1, 1]
    assert [pair["p_holm"] for pair in content["paired"]] == [4 * ps[0], 3 * ps[1], 1, 1]
    text = shown(content)
    assert "lr first last best" in text
    assert "B 1 0.125 (start) 1.000 (1) 1.000 (1)" in text
    assert "highest at last: B, 1.000" in text
    assert "Holm" in text
    assert " k " not in shown(compare(runs, swept=[{"training.lr": "x"}] * 5))
    assert "more options differ" not in shown(compare(runs))
    assert "A 0 0 0.125" in shown(compare(runs))  # without a sweep, what differs in the recipes


def test_five_tests_say_that_chance_is_enough(tmp_path: Path) -> None:
    runs = [finished(tmp_path, f"r{n}", {1: passed("ab"[: n % 3])}) for n in range(6)]
    assert "5 tests: by chance alone about 0.2 of them fall below 0.05" in shown(compare(runs))


def test_cost_tells_own_work_from_reused(tmp_path: Path) -> None:
    runs = [finished(tmp_path, name, {1: passed("ab")}) for name in ("one", "two")]
    own, other = (run["cost"] for run in compare(runs)["runs"])
    assert own["seconds"] == {"spent": 3.0, "reused": 0}
    assert own["tokens"] == {"spent": 80, "reused": 0}
    assert own["rows"] == {"spent": 8, "reused": 0}
    assert own["peak_memory"] == 1000
    events = runs[1].path / "events.jsonl"
    events.write_text("")
    other = compare(runs)["runs"][1]["cost"]
    assert (other["seconds"], other["tokens"]) == ({"spent": 0, "reused": 3.0}, {"spent": 0, "reused": 80})
    assert other["peak_memory"] is None
    assert "80 0 + 80" in shown(compare(runs))


def test_rows_that_do_not_give_the_metric_are_not_paired(runs: list[Run]) -> None:
    for line in runs[1].metrics():
        line["metrics"] = {n: {**v, "value": 0.7} for n, v in line["metrics"].items()}
        runs[1].metric(**{name: value for name, value in line.items() if name != "time"})
    assert compare(runs)["paired"][0]["reason"] == "its rows hold no value for each prompt"


def test_damaged_rows_are_not_paired(runs: list[Run]) -> None:
    scores = runs[1].entry("iteration-02/evaluate.score")
    assert scores is not None
    os.truncate(scores.path / ROWS, 10)
    assert compare(runs)["paired"][0]["p"] is None


def test_metrics_can_be_named(runs: list[Run]) -> None:
    assert list(compare(runs, wanted=["pass@1"])["metrics"]) == ["evaluate.pass@1"]
    with pytest.raises(LookupError, match=r"Did you mean evaluate.pass@1"):
        compare(runs, wanted=["evaluate.pas@1"])


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    evil = "[red]x[/] \x1b[2J\x1b]0;pwned\x07"
    ids = {evil + i: [True] for i in "ab"}
    config = {evil: evil, "training": {evil: 1}}
    one = finished(tmp_path, "one", {1: ids}, recipe=evil)
    two = finished(tmp_path, "two", {1: ids}, recipe=evil, config=config)
    two.save({**two.info, "state": "failed", "error": evil})
    for runs in (
        [one, two],
        [one, two, finished(tmp_path, "c", {1: ids}), finished(tmp_path, "d", {1: ids})],
    ):
        text = shown(compare(runs), width=160)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]x[/]" in text

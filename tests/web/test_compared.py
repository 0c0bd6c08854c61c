"""Runs side by side: named by what differs, with paired tests; and their training curves."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import html5lib

from itercli.engine.runs import Run
from itercli.training.step_log import STEPS
from itercli.web.compared import labels, paired_rows
from itercli.web.data import page_data
from itercli.web.page import render
from itercli.web.training import POINTS, training_curves
from tests.report.finished import finished

CONFIG = [
    {"key": "training.lr", "values": {"a": 0.0001, "b": 0.0003}, "also": []},
    {"key": "loop.sample.n", "values": {"a": 4, "b": 8}, "also": []},
]


def two(root: Path) -> list[Run]:
    right = {f"p{n}": [True] for n in range(8)}
    wrong = {f"p{n}": [n < 2] for n in range(8)}
    return [
        finished(root, "first-0123", {0: wrong, 1: wrong}, config={"training": {"lr": 0.1}}),
        finished(root, "second-4567", {0: wrong, 1: right}, config={"training": {"lr": 0.2}}),
    ]


def test_labels_are_the_options_that_differ() -> None:
    assert labels(["a", "b"], CONFIG) == ["lr 0.0001, n 4", "lr 0.0003, n 8"]


def test_labels_are_names_where_options_do_not_tell_runs_apart() -> None:
    assert labels(["a"], []) == ["a"]
    assert labels(["a", "b"], [{"key": "x", "values": {"a": 1}, "also": []}]) == ["a", "b"]
    assert labels(["a", "b"], [{"key": "x", "values": {"a": "q" * 40, "b": "q" * 41}, "also": []}]) == [
        "a",
        "b",
    ]


def test_the_page_of_several_runs_says_what_differs_and_how_sure_it_is(tmp_path: Path) -> None:
    page = render(page_data(two(tmp_path)))
    words = " ".join(" ".join(html5lib.parse(page, namespaceHTMLElements=False).itertext()).split())
    assert "lr 0.1 first-0123" in words
    assert "Beside lr 0.1, paired by prompt" in words
    assert "evaluate.pass@1 lr 0.2 +0.7" in words
    assert words.index("What differs") < words.index("Metrics by iteration")


def test_paired_rows_are_those_of_compare(tmp_path: Path) -> None:
    (row,) = paired_rows(two(tmp_path))
    assert (row["metric"], row["run"], row["prompts"]) == ("evaluate.pass@1", "second-4567", 8)
    assert (row["up"], row["down"]) == (6, 0)
    assert row["p"] == 2 / 2**6


def test_nothing_is_paired_where_nothing_is_shared(tmp_path: Path) -> None:
    one = finished(tmp_path, "one", {1: {"p": [True]}})
    other = finished(tmp_path, "two", {1: {"p": [True]}}, stage="other")
    assert [row for row in paired_rows([one, other]) if row["p"] is not None] == []


def trained(folder: Path, iteration: int, losses: list[float]) -> Any:
    folder.mkdir()
    lines = [json.dumps({"step": n, "tokens": 5, "loss": loss}) for n, loss in enumerate(losses, 1)]
    (folder / STEPS).write_text("".join(f"{line}\n" for line in lines))
    place = {"kind": "model", "iteration": iteration}
    return SimpleNamespace(
        node=f"iteration-{iteration:02d}/train", place=place, entry=SimpleNamespace(path=folder)
    )


def test_curves_go_on_over_iterations(tmp_path: Path) -> None:
    views = [trained(tmp_path / "a", 1, [3.0, 2.0]), trained(tmp_path / "b", 2, [1.5, 1.0])]
    assert training_curves(views) == {"train": {"loss": [[1, 1, 3.0], [1, 2, 2.0], [2, 3, 1.5], [2, 4, 1.0]]}}


def test_long_trainings_are_thinned_to_their_ends(tmp_path: Path) -> None:
    views = [trained(tmp_path / "a", 1, [float(n) for n in range(5000)])]
    points = training_curves(views)["train"]["loss"]
    assert len(points) == POINTS
    assert (points[0], points[-1]) == ([1, 1, 0.0], [1, 5000, 4999.0])


def test_a_training_without_steps_has_no_curve(tmp_path: Path) -> None:
    assert training_curves([trained(tmp_path / "a", 1, [])]) == {}

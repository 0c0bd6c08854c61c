"""Slices of the prompts: every prompt in exactly one, whatever the numbers."""

from __future__ import annotations

import pytest

from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.records import Message, Prompt
from itercli.stages.base import StageError
from itercli.stages.slice import Slice
from tests.conftest import Project
from tests.stages.context import Context


def prompts(n: int) -> list[Prompt]:
    return [Prompt(id=f"p/{i}", messages=[Message(role="user", content=str(i))]) for i in range(n)]


def dealt(n: int, slices: int, iteration: int, salt: int = 0) -> list[str]:
    ctx = Context({"whole": prompts(n)})
    ctx.iteration = iteration
    Slice(prompts="tasks", slices=slices, salt=salt).run(ctx)  # type: ignore[arg-type]
    return [row.id for row in ctx.rows]


@pytest.mark.parametrize(("n", "slices"), [(10, 3), (9, 3), (3, 3), (7, 1)])
def test_nothing_is_lost_and_nothing_comes_twice(n: int, slices: int) -> None:
    parts = [dealt(n, slices, i) for i in range(1, slices + 1)]
    assert sorted(p for part in parts for p in part) == sorted(p.id for p in prompts(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert dealt(n, slices, slices + 1) == parts[0]


def test_the_salt_deals_anew() -> None:
    assert dealt(20, 2, 1) != dealt(20, 2, 1, salt=1)


def test_more_slices_than_prompts_is_an_error() -> None:
    with pytest.raises(StageError, match="2 prompts can't be cut into 3"):
        dealt(2, 3, 3)


def test_in_a_run_each_iteration_has_its_own(project: Project) -> None:
    project.run_toy(
        "iterations=2", "headline=null", "loop={part: {uses: slice, prompts: tasks, slices: 2}, "
        "sample: {uses: sample, role: policy, prompts: part}}",
    )  # fmt: skip
    (run,) = all_runs(project.path / "runs")
    ids = [
        {p.id for p in read_rows(run.path / f"iteration-{i:02d}/part/rows.parquet", Prompt)} for i in (1, 2)
    ]
    assert all(ids)
    assert not ids[0] & ids[1]

"""The log of a training's steps: the same bytes whether or not it was cut off."""

from __future__ import annotations

import math
from pathlib import Path

from itercli.training.step_log import STEPS, StepLog, read_steps


def train(folder: Path, first: int, last: int, speed: float = 1.0) -> bytes:
    log = StepLog(folder)
    for step in range(first, last + 1):
        log.add(step, {"loss": 1 / step, "tokens_per_second": speed})
    return (folder / STEPS).read_bytes()


def test_cut_off_and_resumed_from_a_checkpoint(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    train(cut, 1, 4, speed=3.0)
    with open(cut / STEPS, "a") as file:
        file.write('{"step": 5, "lo')  # torn
    assert train(cut, 3, 6) == train(whole, 1, 6)
    train(cut, 1, 2)  # from the start again
    assert [row["step"] for row in read_steps(cut / STEPS)] == [1, 2]


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    StepLog(tmp_path).add(1, {"loss": math.nan, "grad_norm": 2.0})
    assert list(read_steps(tmp_path / STEPS)) == [{"step": 1, "loss": None, "grad_norm": 2.0}]


def test_nothing_is_there_before_the_first_step(tmp_path: Path) -> None:
    StepLog(tmp_path)
    assert list(read_steps(tmp_path / STEPS)) == []

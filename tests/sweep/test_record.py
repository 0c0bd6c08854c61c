"""A sweep's record: written, read, found."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.engine.files import Locked
from itercli.sweep.record import FOLDER, Sweep, SweepPoint, all_sweeps, find_sweep, sweep_name


def make(root: Path, name: str, updated: str) -> Sweep:
    points = [SweepPoint(f"{name}-a", {"seed": "1"}, ["recipe=x", "seed=1"])]
    sweep = Sweep(root / FOLDER / name, "x", ["recipe=x", "seed=1,1"], points, updated=updated)
    sweep.save()
    return sweep


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    old, new = make(tmp_path, "x-sweep-1", "2026-01-01"), make(tmp_path, "x-sweep-2", "2026-01-02")
    assert all_sweeps(tmp_path) == [new, old]
    assert find_sweep(tmp_path, None) == new
    assert find_sweep(tmp_path, "x-sweep-1") == old
    assert old.run(old.points[0]).path == tmp_path / "x-sweep-1-a"


def test_a_name_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="iter run -m"):
        find_sweep(tmp_path, None)
    make(tmp_path, "x-sweep-1", "2026-01-01")
    make(tmp_path, "x-sweep-2", "2026-01-02")
    with pytest.raises(LookupError, match="2 sweeps begin with 'x'"):
        find_sweep(tmp_path, "x")
    with pytest.raises(LookupError, match="Did you mean x-sweep-1"):
        find_sweep(tmp_path, "x-swep-1")


def test_name_is_of_the_runs_not_of_the_line() -> None:
    assert sweep_name("x", ["b", "a"]) == sweep_name("x", ["a", "b"]) != sweep_name("x", ["a"])


def test_one_process_at_a_time(tmp_path: Path) -> None:
    sweep = make(tmp_path, "x-sweep-1", "")
    with sweep.lock(), pytest.raises(Locked, match="process"), sweep.lock():
        pass

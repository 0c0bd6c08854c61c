"""Short forms of scripts/crash_test.py: killed runs end with the same bytes as undisturbed ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "scripts" / "crash_test.py"
SMALL = (
    *TINY,
    "iterations=1",
    "sampler=transformers",
    # Many short steps, so that kills find checkpoints.
    "training.batch_size=1",
    "training.checkpoint_seconds=0.2",
    "before.evaluate_unseen=null",
    "loop.evaluate_unseen=null",
)


@pytest.mark.parametrize("how", [("-n", "3"), ("--term", "-n", "2")], ids=["SIGKILL", "SIGTERM"])
def test_killed_runs_end_with_the_same_bytes(how: tuple[str, ...], tmp_path: Path) -> None:
    call = [sys.executable, str(SCRIPT), *how, "--keep", str(tmp_path), *SMALL]
    done = subprocess.run(call, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    signal = "SIGTERM" if "--term" in how else "SIGKILL"
    assert signal in done.stdout  # the other kills are at an fsync or a rename


def test_killed_in_each_stage_of_self_lengthen_that_works_for_long(tmp_path: Path) -> None:
    aimed = ("propose", "extend", "train_generator", "train_extender")
    how = ("--recipe", "self_lengthen", "-n", "4", "--stages", ",".join(aimed), "--keep", str(tmp_path))
    less = ("iterations=1", "before.evaluate=null", "loop.evaluate=null", "headline=null")
    call = [sys.executable, str(SCRIPT), *how, *less]
    done = subprocess.run(call, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [stage for (stage,) in killed(done.stdout)] == [f"iteration-01/{stage}" for stage in aimed]
    assert "row stages resumed from a journal: 2; trainings resumed from a checkpoint: 2;" in done.stdout


def test_killed_in_each_stage_of_upo_that_works_for_long(tmp_path: Path) -> None:
    aimed = ("train_reward", "train_estimator", "reward", "estimate", "train")
    how = ("--recipe", "upo", "-n", "5", "--stages", ",".join(aimed), "--keep", str(tmp_path))
    less = (
        "iterations=1", "data.train.limit=8", "before.evaluate=null", "loop.evaluate=null", "loop.wins=null",
        "loop.drift=null", "loop.noise=null", "headline=null",
    )  # fmt: skip
    call = [sys.executable, str(SCRIPT), *how, *less]
    done = subprocess.run(call, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    for stage, under_way in zip(aimed, killed(done.stdout), strict=True):
        where = "before" if stage in ("train_reward", "train_estimator") else "iteration-01"
        assert f"{where}/{stage}" in under_way, done.stdout
    assert "row stages resumed from a journal: 2; trainings resumed from a checkpoint: 3;" in done.stdout


def test_killed_in_each_stage_of_agent_r_that_works_for_long(tmp_path: Path) -> None:
    aimed = ("search", "judge", "revise", "train")
    how = ("--recipe", "agent_r", "-n", "4", "--stages", ",".join(aimed), "--keep", str(tmp_path))
    tests = ("rollout", "evaluate", "recover", "recovery")
    less = (
        "iterations=1", "data.train.limit=4", "training.max_steps=4", "headline=null",
        *(f"{when}.{stage}=null" for when in ("before", "loop") for stage in tests),
        "before.attempts=null", "before.bad_starts=null",
    )  # fmt: skip
    call = [sys.executable, str(SCRIPT), *how, *less]
    done = subprocess.run(call, text=True, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [stage for (stage,) in killed(done.stdout)] == [f"iteration-01/{stage}" for stage in aimed]
    assert "row stages resumed from a journal: 3; trainings resumed from a checkpoint: 1;" in done.stdout


def killed(table: str) -> list[list[str]]:
    """For each kill of the script's table the stages that were under way."""
    lines = [line.partition("SIGKILL")[2] for line in table.splitlines() if "SIGKILL" in line]
    return [[word.strip(",") for word in line.split()[2:]] for line in lines]

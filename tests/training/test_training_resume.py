"""A training that was cut off and went on gives the same bytes as one that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from itercli.training.base import Interrupted
from itercli.training.methods import Ranking, Sft
from tests.training.tiny import example, file_bytes, tiny_job, tiny_ref

# 10 examples in batches of 4: an epoch has 3 steps, the last of 2 examples; each step accumulates.
EXAMPLES = [example(i) for i in range(10)]
TUNING = {"full": {}, "lora": {"tuning": "lora", "lora": {"r": 4, "alpha": 8, "dropout": 0.05}}}


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    return tiny_ref(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module", params=list(TUNING))
def whole(request, ref, tmp_path_factory):
    """(tuning, files, reports, result) of an uninterrupted training."""
    return request.param, *resumed(tmp_path_factory.mktemp("whole"), ref, request.param)


def interrupted(tmp_path, ref, tuning, at, **options):
    """Train until step `at`, then stop."""
    options = TUNING[tuning] | {"epochs": 2} | options
    with pytest.raises(Interrupted, match=f"step {at} of 6"):
        Ranking().train(tiny_job(tmp_path, ref, EXAMPLES, stop_after=at, **options))
    assert not (tmp_path / "out").exists()


def resumed(tmp_path, ref, tuning, **options):
    logs = []
    job = tiny_job(tmp_path, ref, EXAMPLES, log=logs, **(TUNING[tuning] | {"epochs": 2} | options))
    result = Ranking().train(job)
    return file_bytes(job.out), logs, result


@pytest.mark.parametrize("at", [2, 3], ids=["mid-epoch", "epoch-boundary"])
def test_stopped_and_resumed_is_byte_identical(tmp_path, ref, whole, at):
    tuning, files, logs, result = whole
    interrupted(tmp_path, ref, tuning, at)
    got, got_logs, got_result = resumed(tmp_path, ref, tuning)
    assert got == files
    assert [done for done, _, _ in got_logs] == list(range(at + 1, 7))
    assert [m["loss"] for _, _, m in got_logs] == [m["loss"] for _, _, m in logs[at:]]
    assert got_result == result


def test_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, ref, whole):
    tuning, files, _, _ = whole
    interrupted(tmp_path, ref, tuning, 4, checkpoint_steps=1)
    folder = tmp_path / "work" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["step-3", "step-4"]
    optimizer = folder / "step-4" / "optimizer.pt"
    data = bytearray(optimizer.read_bytes())
    data[len(data) // 2] ^= 1
    optimizer.write_bytes(data)
    got, logs, _ = resumed(tmp_path, ref, tuning)
    assert logs[0][0] == 4
    assert got == files


@pytest.mark.parametrize(
    "change", [{"lr": 2e-3}, {"seed": 8}, {"batch_size": 5}], ids=["lr", "seed", "batch_size"]
)
def test_checkpoint_of_other_options_is_ignored(tmp_path, ref, change):
    interrupted(tmp_path, ref, "full", 2)
    _, logs, _ = resumed(tmp_path, ref, "full", **change)
    assert logs[0][0] == 1


def test_checkpoint_of_other_examples_or_method_is_ignored(tmp_path, ref):
    interrupted(tmp_path, ref, "full", 2)
    logs = []
    Ranking().train(tiny_job(tmp_path, ref, EXAMPLES[:-1], epochs=2, log=logs))
    assert logs[0][0] == 1
    interrupted(tmp_path / "b", ref, "full", 2)
    Sft().train(tiny_job(tmp_path / "b", ref, EXAMPLES, epochs=2, log=logs))
    assert logs[6][0] == 1


def test_how_options_may_change_between_attempts(tmp_path, ref):
    interrupted(tmp_path, ref, "full", 2)
    _, logs, _ = resumed(tmp_path, ref, "full", micro_batch_size=4, checkpoint_seconds=1.0)
    assert logs[0][0] == 3


def test_resuming_a_finished_training_saves_the_same_model(tmp_path, ref, whole):
    """The stage may die after the last step: nothing may be trained twice."""
    tuning, files, _, result = whole
    for _ in range(2):
        got, _, got_result = resumed(tmp_path, ref, tuning, checkpoint_steps=1)
        assert got == files
        assert got_result == result


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.training.tiny import example, tiny_job
from itercli.records import ModelRef
from itercli.training.methods import Ranking

ref = ModelRef(base=sys.argv[2], version="policy@0", digest="tiny")
job = tiny_job(
    Path(sys.argv[3]), ref, [example(i) for i in range(10)], epochs=2, checkpoint_steps=1,
    tuning="lora", lora={"r": 4, "alpha": 8, "dropout": 0.05},
)
def die(done, total, metrics):
    if done == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

job.report = die
Ranking().train(job)
"""


@pytest.mark.slow
def test_killed_and_resumed_in_other_processes(tmp_path, ref):
    """SIGKILL twice; each process has its own string hashing, as sets of names depend on it."""
    files = resumed(tmp_path / "whole", ref, "lora")[0]
    for attempt, (kill_at, code) in enumerate([(2, -signal.SIGKILL), (5, -signal.SIGKILL), (0, 0)]):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                KILLED,
                str(Path(__file__).parents[2]),
                ref.base,
                str(tmp_path / "cut"),
                str(kill_at),
            ],
            env=os.environ | {"PYTHONHASHSEED": str(attempt)},
            check=False,
        )
        assert done.returncode == code
    assert file_bytes(tmp_path / "cut" / "out") == files

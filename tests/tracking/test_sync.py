"""`iter sync` into the real trackers, without a network, read back with their own readers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from itercli.engine.runs import Run
from itercli.tracking import wandb as module
from itercli.tracking.base import About
from itercli.tracking.wandb import Wandb
from tests.conftest import Project

Iter = Callable[..., subprocess.CompletedProcess[str]]


def scores(made: Project) -> dict[int, float]:
    """Iteration -> pass@1, from metrics.jsonl."""
    lines = Run(made.path / "runs" / "plain").metrics()
    return {m["iteration"]: m["metrics"]["pass@1"]["value"] for m in lines if m["stage"] == "evaluate"}


def sync(isolated: Iter, *args: str) -> dict[str, Any]:
    out = json.loads(isolated("sync", "plain", *args, "--json").stdout)
    assert (out["schema"], out["run"]) == ("itercli.sync/1", "plain")
    (result,) = out["trackers"]
    assert result["error"] is None
    return result


def test_tensorboard(made: Project, isolated: Iter) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sent = sync(isolated, "--tracker", "tensorboard", "samples=1")["sent"]
    assert sync(isolated, "--tracker", "tensorboard", "samples=1")["sent"] == 0
    assert sent > 5
    events = EventAccumulator(str(made.path / "runs/plain/tracking/tensorboard")).Reload()
    assert {e.step: e.value for e in events.Scalars("evaluate/pass@1")} == pytest.approx(scores(made))
    assert [e.step for e in events.Scalars("training/train.loss")] == list(range(1, 9))
    (recipe,) = events.Tensors("recipe")
    assert b"    iterations: 2\n" in recipe.tensor_proto.string_val[0]
    samples = events.Tensors("samples/evaluate.score/1")
    assert [e.step for e in samples] == [1, 2]
    assert samples[0].tensor_proto.string_val[0].startswith(b"    prompt_id: p0\n")


@pytest.mark.slow
def test_mlflow(made: Project, isolated: Iter) -> None:
    pytest.importorskip("mlflow")
    options = ("--tracker", "mlflow", "samples=1", "model=last")
    sync(isolated, *options)
    assert sync(isolated, *options)["sent"] == 0
    code = """
import json
from mlflow import MlflowClient
client = MlflowClient("sqlite:///runs/mlflow.db")
(run,) = client.search_runs([client.get_experiment_by_name("itercli").experiment_id])
id = run.info.run_id
names = ["evaluate/pass_at_1", "training/train.loss"]
print(json.dumps({
    "metrics": [[[m.step, m.value] for m in client.get_metric_history(id, n)] for n in names],
    "status": run.info.status, "name": run.info.run_name, "tags": run.data.tags, "params": run.data.params,
    "files": [f.path for f in client.list_artifacts(id, "model/policy-2")],
}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=made.path, env=made.env, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert dict(found["metrics"][0]) == scores(made)
    assert [step for step, _ in found["metrics"][1]] == list(range(1, 9))
    assert (found["status"], found["name"], found["params"]["iterations"]) == ("FINISHED", "plain", "2")
    assert found["tags"]["best_iteration"] in ("1", "2")
    assert found["files"] == ["model/policy-2/config.json"]


@pytest.mark.slow
def test_trackio(made: Project, isolated: Iter) -> None:
    pytest.importorskip("trackio")
    sync(isolated, "--tracker", "trackio", "samples=1")
    assert sync(isolated, "--tracker", "trackio", "samples=1")["sent"] == 0
    code = """
import json
from trackio.sqlite_storage import SQLiteStorage
(name,) = SQLiteStorage.get_runs("itercli")
print(json.dumps([name, SQLiteStorage.get_logs("itercli", name)], default=str))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=made.path, env=made.env, capture_output=True, text=True, check=True
    )
    name, logs = json.loads(done.stdout.splitlines()[-1])
    assert name.startswith("plain-")
    assert {r["step"]: r["evaluate/pass@1"] for r in logs if "evaluate/pass@1" in r} == scores(made)
    assert [r["step"] for r in logs if "training/train.loss" in r] == list(range(1, 9))
    assert any("samples/evaluate.score" in r for r in logs)


def test_again_sends_everything_anew(made: Project, isolated: Iter) -> None:
    first = sync(isolated, "--tracker", "record")["sent"]
    assert sync(isolated, "--tracker", "record")["sent"] == 0
    assert sync(isolated, "--tracker", "record", "--again")["sent"] == first


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "names no tracker; choose one with --tracker: "),
        (["--tracker", "tensorbord"], "Did you mean tensorboard?"),
        (["--tracker", "wandb", "projct=x"], "Did you mean project?"),
        (["--tracker", "wandb", "--json", "x"], "write KEY=VALUE"),
        (["--tracker", "absent"], "pip install 'itercli[absent]'"),
    ],
)
def test_mistakes(made: Project, args: list[str], said: str) -> None:
    done = made.iter("sync", "plain", *args, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_what_waits_offline_is_uploaded_once_there_is_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_account", lambda: False)
    calls: list[list[str]] = []
    fake = SimpleNamespace(run=lambda command, check: calls.append(command))
    monkeypatch.setattr(module, "subprocess", fake)
    about = About("r", "id", tmp_path, {}, memory={"unsent": [str(tmp_path), str(tmp_path / "gone")]})
    assert "wandb login" in Wandb().catch_up(about)
    monkeypatch.setattr(module, "has_account", lambda: True)
    assert Wandb().catch_up(about) == ""
    assert calls == [[sys.executable, "-m", "wandb", "sync", str(tmp_path)]]
    assert about.memory["unsent"] == []
    Wandb().catch_up(about)
    assert len(calls) == 1

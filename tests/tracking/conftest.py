"""A finished toy run that its tests only add to, and a made-up run without any process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.runs import Run
from tests.conftest import Project, make_project
from tests.tracking import plugin

PLUGIN = Path(plugin.__file__)


@pytest.fixture(scope="session")
def no_network() -> list[str]:
    """A prefix for commands that takes every network away, also from programs that aren't Python."""
    prefix = ["unshare", "--user", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    return prefix


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Run `plain` of two iterations, finished, without a tracker."""
    project = make_project(tmp_path_factory.mktemp("tracking"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        project.env.pop(name, None)
    home = project.path / "home"
    home.mkdir()
    project.env |= {"HOME": str(home), "TRACKIO_DIR": str(home / "trackio"), "OMP_NUM_THREADS": "1"}
    with_plugin = (project.path / "toy.yaml").read_text().replace("plugins: [", f"plugins: [{PLUGIN}, ")
    (project.path / "toy.yaml").write_text(with_plugin)
    project.run_toy("--name", "plain")
    return project


@pytest.fixture
def isolated(made: Project, no_network: list[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `iter ARGS` in the folder of `made` without a network."""

    def call(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*no_network, sys.executable, "-m", "itercli", *args],
            cwd=made.path, env=made.env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


class FakeRun:
    """Writes what a run leaves: metrics, and the step logs of its trainings."""

    def __init__(self, root: Path) -> None:
        self.run = Run(root / "fake")
        self.run.path.mkdir(parents=True)
        self.nodes: dict[str, Any] = {}
        self.save("running")

    def save(self, state: str) -> None:
        info = {"recipe": "toy", "created": "2026", "folder": "/x", "state": state, "nodes": self.nodes}
        self.run.save(info)

    def stage(self, node: str, iteration: int, kind: str, key: str, metrics: dict[str, Any]) -> None:
        place = {"uses": kind, "kind": kind, "key": key, "iteration": iteration, "needs": [], "models": {}}
        self.nodes[node] = place
        self.save("running")
        if metrics:
            stage = node.partition("/")[2]
            self.run.metric(node=node, iteration=iteration, stage=stage, key=key, metrics=metrics)

    def steps(self, key: str, losses: list[float], *, done: bool) -> None:
        entry = self.run.store.entry("model", key)
        folder = entry.path
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"step": n, "loss": loss} for n, loss in enumerate(losses, 1)]
        (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if done:
            entry.finish(
                ingredients={}, inputs={}, models={}, rows=None, record=None, counts={}, metrics={},
                seconds=1, work={},
            )  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)

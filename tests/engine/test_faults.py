"""What goes wrong on real machines: dead and hung workers, full disks, two of a kind."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from itercli.engine.runs import all_runs
from tests.conftest import Project
from tests.engine.test_run import ran, wait_for


def sampler(fault: str) -> str:
    return f"sampler={{name: toy, fault: {fault}, delay: 0.05}}"


def test_killed_worker_is_reported_with_all_that_is_known(project: Project) -> None:
    done = project.run_toy(sampler("oom"), check=False)
    assert done.returncode == 1
    for part in (
        "iteration-01/sample failed",
        "SIGKILL",
        "out of memory",
        "peak memory was",
        "sample.log",
        "go on with",
    ):
        assert part in done.stderr
    assert project.run_toy(sampler("none")).returncode == 0


def test_exit_code_and_last_lines_of_a_worker_are_shown(project: Project) -> None:
    done = project.run_toy(sampler("exit"), check=False)
    assert "exit code 7" in done.stderr
    assert "| toy says goodbye" in done.stderr


def test_exception_names_stage_and_log(project: Project) -> None:
    done = project.run_toy(sampler("raise"), check=False)
    assert "iteration-01/sample failed: RuntimeError: toy trouble" in done.stderr
    run = all_runs(project.path / "runs")[0]
    assert "toy trouble" in (run.path / "logs" / "latest" / "sample.log").read_text()


def test_retries_give_a_dead_worker_another_chance(project: Project) -> None:
    project.env["TOY_FAULT_ONCE"] = str(project.path / "once")
    project.run_toy(sampler("oom"), "executor.retries=1")
    run = all_runs(project.path / "runs")[0]
    opened = [
        e["rows"]
        for e in run.events()
        if e["event"] == "journal_opened" and e["node"] == "iteration-01/sample"
    ]
    assert opened == [0, 3]  # the rows before the fault were kept


def test_hung_worker_is_ended_and_says_where_it_was(project: Project) -> None:
    started = time.monotonic()
    done = project.run_toy(sampler("hang"), "executor.hang_seconds=3", check=False)
    assert time.monotonic() - started < 30
    assert done.returncode == 1
    assert "hung" in done.stderr
    assert "executor.hang_seconds" in done.stderr
    run = all_runs(project.path / "runs")[0]
    assert "in misbehave" in (run.path / "logs" / "latest" / "sample.log").read_text()


def test_second_process_on_one_run_is_refused(project: Project) -> None:
    first = project.start("run", "recipe=toy.yaml", "iterations=1", "sampler.delay=0.2")
    wait_for(project.path / "runs", '"policy_loaded"')
    second = project.run_toy("iterations=1", "sampler.delay=0.2", check=False)
    assert second.returncode == 3
    assert f"process {first.pid}" in second.stderr
    assert "--name" in second.stderr
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_two_runs_on_one_stage_compute_it_once(project: Project) -> None:
    args = ("iterations=1", "sampler.delay=0.15")
    first = project.start("run", "recipe=toy.yaml", *args)
    wait_for(project.path / "runs", '"policy_loaded"')
    second = project.run_toy(*args, "--name", "second")
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert "another process works on it" in second.stdout
    both = [n for run in all_runs(project.path / "runs") for n in ran(run)]
    assert both.count("iteration-01/sample") == 1
    assert both.count("before/tasks") == 1


def test_run_and_stage_survive_the_death_of_the_one_that_was_first(project: Project) -> None:
    first = project.start("run", "recipe=toy.yaml", "iterations=1", "sampler.delay=0.15")
    wait_for(project.path / "runs", '"policy_loaded"')
    second = project.start("run", "recipe=toy.yaml", "iterations=1", "sampler.delay=0.15", "--name", "second")
    wait_for(project.path / "runs", '"waiting"')
    first.kill()
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, out + err


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
    ).returncode
    != 0,
    reason="needs user namespaces to mount a small file system",
)
def test_full_disk_stops_clearly_and_goes_on_when_there_is_space(project: Project, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    overrides = "recipe=toy.yaml loop.sample.n=400 iterations=1"
    run = f"{sys.executable} -m itercli run {overrides} --runs small/runs"
    script = f"""
        mount -t tmpfs -o size=800k none small
        {run} > first.log 2>&1; echo "first: $?"
        find small -name journal.jsonl -size +0 | grep -q . && echo "rows kept"
        mount -o remount,size=100m small
        {run} > second.log 2>&1; echo "second: $?"
        cp small/runs/toy-*/events.jsonl events.jsonl
    """
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", script],
        cwd=project.path,
        env=project.env,
        text=True,
        capture_output=True,
    )
    first, second = (project.path / "first.log").read_text(), (project.path / "second.log").read_text()
    assert "first: 1" in done.stdout, done.stdout + done.stderr + first
    assert "no space left" in first
    assert "free some space" in first
    assert "rows kept" in done.stdout
    assert "second: 0" in done.stdout, second


def test_unfinished_checkpoint_folder_does_not_count_as_started(project: Project) -> None:
    project.run_toy("iterations=1")
    run = all_runs(project.path / "runs")[0]
    entry = run.entry("iteration-01/train")
    assert entry is not None
    (entry.path / "manifest.json").unlink()
    (entry.path / "checkpoints" / "tmp-3").mkdir(parents=True)
    assert not entry.started

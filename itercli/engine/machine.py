"""What a run's machine is, from the kernel's own files: no process is started for it."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

GPUS = Path("/proc/driver/nvidia/gpus")
CPUINFO = Path("/proc/cpuinfo")

# Instructions that multiply bfloat16 matrices (x86, and Arm's name for its own), as the kernel lists them.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# oneDNN, which does torch's matrix products, can be limited to older instructions (ONEDNN_MAX_CPU_ISA).
_BF16_ISA = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")


def machine() -> dict[str, Any]:
    """``system``, ``cpu``, ``cores`` that this process may use, ``memory`` (bytes), ``gpus`` (names).

    Without the machine's name: reports are handed on.
    """
    return {
        "system": platform.platform(),
        "cpu": _field(CPUINFO, "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [_field(path, "Model") for path in sorted(GPUS.glob("*/information"))],
    }


def _field(path: Path, name: str) -> str:
    """The first value of a ``name : value`` file; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            return next((v.strip() for k, _, v in (x.partition(":") for x in lines) if k.strip() == name), "")
    except OSError:
        return ""


@cache
def cpu_has_bfloat16() -> bool:
    """Whether torch computes fast in bfloat16 on this CPU.

    Without such instructions each product is converted to float32 and back, and is slower than
    float32 itself. torch has no fast path for it on macOS. `ONEDNN_MAX_CPU_ISA` and
    `ATEN_CPU_CAPABILITY`, which hide instructions from torch, hide them here as well.
    """
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if isa and not any(name in isa for name in _BF16_ISA):
        return False
    if os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in ("default", "avx2"):
        return False
    flags = _field(CPUINFO, "flags") or _field(CPUINFO, "Features")
    return not BF16_FLAGS.isdisjoint(flags.split())

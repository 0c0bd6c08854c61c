"""What a run's machine is, from the kernel's own files: no process is started for it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

GPUS = Path("/proc/driver/nvidia/gpus")


def machine() -> dict[str, Any]:
    """``system``, ``cpu``, ``cores`` that this process may use, ``memory`` (bytes), ``gpus`` (names).

    Without the machine's name: reports are handed on.
    """
    return {
        "system": platform.platform(),
        "cpu": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
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

"""What accelerators are there, without importing torch."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def gpu_count() -> int:
    """NVIDIA GPUs that a worker would see (CUDA_VISIBLE_DEVICES respected)."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(list(Path("/dev").glob("nvidia[0-9]*"))) or len(
        list(Path("/proc/driver/nvidia/gpus").glob("*"))
    )
    if visible is None:
        return present
    return min(present, len([v for v in visible.split(",") if v.strip() not in ("", "-1")]))

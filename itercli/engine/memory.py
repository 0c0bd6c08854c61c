"""Telling that memory ran out: libraries say it in many words, few of which are "memory"."""

from __future__ import annotations

import os
import re
import resource
from contextlib import suppress
from pathlib import Path

GIB = 2**30

_GPU = re.compile(r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
_HOST = re.compile(
    r"failed to map segment from shared object|cannot allocate memory|can't allocate memory|MemoryError"
    r"|unable to allocate|bad_alloc|memory allocation (of \d+ bytes |still )?failed|out of memory"
    r"|not enough memory|can't start new thread|thread creation failed|pthread_create failed"
    r"|cannot create .{0,40}thread|std::length_error|unable to mmap|mmap failed|os error 12\b",
    re.IGNORECASE,
)
_SMALLER = "a smaller model, or lower sampler.batch_size and training.micro_batch_size"


def explain(text: str) -> str:
    """What a failure's text has to do with memory, and the way out; empty if nothing.

    Args:
        text: The message, perhaps with traceback or the last lines of a log.
    """
    if _GPU.search(text):
        return (
            "the GPU's memory ran out: take "
            f"{_SMALLER}; training.gradient_checkpointing=true and tuning: lora need less, and so does vLLM "
            "with a lower sampler.gpu_memory_utilization"
        )
    if not _HOST.search(text):
        return ""
    limit = limits()
    if limit:
        return f"memory ran out: {limit}. Raise the limit, or take {_SMALLER}"
    import psutil

    memory = psutil.virtual_memory()
    return (
        f"memory ran out: of the machine's {memory.total / GIB:.1f} GiB {memory.available / GIB:.1f} GiB are "
        f"free now. End other programs, or take {_SMALLER}"
    )


def shell_limits() -> str:
    """The shell's limits on a process's memory (`ulimit`), which workers inherit; empty if there are none."""
    found = []
    for which, option in ((resource.RLIMIT_AS, "-v"), (resource.RLIMIT_DATA, "-d")):
        soft, _ = resource.getrlimit(which)
        if soft != resource.RLIM_INFINITY:
            found.append(
                f"this shell allows a process {soft / GIB:.1f} GiB (`ulimit {option} unlimited` lifts it)"
            )
    return " and ".join(found)


def limits() -> str:
    """All limits on this process's memory that are below the machine's; empty if there are none."""
    found = [text] if (text := shell_limits()) else []
    with suppress(OSError, ValueError):
        allowed = int(Path("/sys/fs/cgroup/memory.max").read_text())
        if allowed < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            found.append(f"the container or session allows {allowed / GIB:.1f} GiB in all (memory.max)")
    return " and ".join(found)

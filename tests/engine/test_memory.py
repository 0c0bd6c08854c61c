"""Lack of memory is told as such, in whatever words it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from itercli.engine import memory
from itercli.engine.memory import explain


@pytest.mark.parametrize(
    "text",
    [
        "ImportError: libtorch_cpu.so: failed to map segment from shared object",
        "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB for an array",
        "MemoryError",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "memory allocation of 4096 bytes failed",
        "RuntimeError: can't start new thread",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2",
        "safetensors_rust.SafetensorError: Error while mapping: Cannot allocate memory (os error 12)",
    ],
)
def test_words_of_libraries_for_lack_of_memory(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "limits", lambda: "")
    assert "memory ran out: of the machine's" in explain(text)
    monkeypatch.setattr(memory, "limits", lambda: "this shell allows a process 1.0 GiB")
    assert "this shell allows a process 1.0 GiB. Raise the limit" in explain(text)


def test_memory_of_the_gpu_is_told_apart() -> None:
    assert "the GPU's memory" in explain(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    )


@pytest.mark.parametrize("text", ["", "KeyError: 'memory'", "ValueError: a stage can't be its own input"])
def test_other_failures_are_left_alone(text: str) -> None:
    assert explain(text) == ""


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_AS, ({0} << 20, {0} << 20)); "


@pytest.mark.parametrize("mib", [200, 300])
def test_torch_under_a_limit_of_the_shell(mib: int) -> None:
    """Between this and enough its import dies or hangs, which only the watch over workers ends."""
    code = LIMITED.format(mib) + "import torch"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "memory ran out" in explain(done.stderr)


def test_limit_of_the_shell_and_how_to_lift_it() -> None:
    code = LIMITED.format(1024) + "from itercli.engine.memory import explain; print(explain('MemoryError'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "this shell allows a process 1.0 GiB (`ulimit -v unlimited` lifts it)" in done.stdout

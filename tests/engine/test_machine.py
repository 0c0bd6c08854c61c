"""What the CPU computes fast, read from the kernel's list of its features."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.engine import machine

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 avx avx2 {}\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("cpuinfo", "environment", "fast"),
    [
        (X86.format("fma"), {}, False),
        (X86.format("avx512f avx512bw"), {}, False),
        (X86.format("avx512f avx512_bf16"), {}, True),
        (X86.format("amx_bf16 amx_tile"), {}, True),
        (ARM.format("sve i8mm bf16"), {}, True),
        (ARM.format("sve"), {}, False),
        (None, {}, False),  # macOS: no such file
        (X86.format("avx512_bf16"), {"ONEDNN_MAX_CPU_ISA": "AVX2"}, False),
        (X86.format("avx512_bf16"), {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, True),
        (X86.format("avx512_bf16"), {"ATEN_CPU_CAPABILITY": "avx2"}, False),
    ],
)
def test_bfloat16_is_fast_only_with_instructions_for_it(
    cpuinfo: str | None,
    environment: dict[str, str],
    fast: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    monkeypatch.setattr(machine, "CPUINFO", path)
    monkeypatch.setattr(machine, "cpu_has_bfloat16", machine.cpu_has_bfloat16.__wrapped__)
    assert machine.cpu_has_bfloat16() is fast

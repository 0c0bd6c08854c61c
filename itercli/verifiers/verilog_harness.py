"""How each suite compiles, limits and judges a sample: as its authors' own harness does.

NVlabs/verilog-eval v1: `verilog_eval/execution.py`; v2: `Makefile.in` and
`scripts/sv-iv-analyze`; hkust-zhiyao/RTLLM: each design's `makefile` and `auto_run.py`.
The order of the files matters: directives and macros of the first hold in the next, so a
sample that comes first and has no `timescale counts its delays in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from itercli.errors import IterError

PASS_LINE = "Your Design Passed"


class UnknownHarness(IterError, ValueError):
    """A prompt names a harness that there is not."""


@dataclass(frozen=True)
class Harness:
    """A suite's way to judge.

    Attributes:
        sample_first: The sample is compiled before the bench.
        warnings_fail: A compiler's warning fails the sample.
        classes: A missing sensitivity fails the sample though it compiles, as in VerilogEval v2.
        prelude: Text compiled before everything.
        cpu_seconds: CPU time of the compiler and of the simulation, each.
        sim_time: Time units of the bench after which the simulation is ended; None for no end.
        pass_line: What the bench prints if, and only if, the design passes; None: the last line
            "Mismatches: N in M samples" counts.
    """

    name: str
    sample_first: bool = False
    warnings_fail: bool = False
    classes: bool = True
    prelude: str = ""
    cpu_seconds: int = 10
    sim_time: int | None = None
    pass_line: str | None = None


HARNESSES = {
    h.name: h
    for h in (
        Harness("own"),
        Harness("verilogeval-v1", warnings_fail=True, sim_time=10_000_000),
        Harness("verilogeval-v2", sample_first=True, sim_time=10_000_000),
        Harness(
            "rtllm",
            sample_first=True,
            classes=False,
            prelude="`timescale 1ns/1ns\n",  # vcs -timescale=1ns/1ns
            cpu_seconds=8,
            sim_time=10_000_000,
            pass_line=PASS_LINE,
        ),
    )
}

Name = Literal["own", "verilogeval-v1", "verilogeval-v2", "rtllm"]


def harness(name: str) -> Harness:
    """The harness of a name.

    Raises:
        UnknownHarness: There is none.
    """
    if name not in HARNESSES:
        raise UnknownHarness(f"no harness {name!r}; meta['harness'] is one of {', '.join(HARNESSES)}")
    return HARNESSES[name]

"""Benchmark references that do not pass their own bench.

Found by running every reference with Icarus Verilog 11.0 (Debian). A model cannot solve these
tasks there either: leave them out, or say so beside the score.
"""

from __future__ import annotations

_CAST = "needs a cast that Icarus 11 does not support"

KNOWN_BAD: dict[str, dict[str, str]] = {
    "verilogeval-machine": {},
    "verilogeval-human": {"review2015_fsm": _CAST, "review2015_fancytimer": _CAST},
    "verilogeval-v2": {
        "Prob082": "its bench reports TIMEOUT",
        "Prob099": "a port of its reference is wrong",
        "Prob141": "its bench reports TIMEOUT",
        "Prob151": _CAST,
        "Prob156": _CAST,
    },
    "rtllm": {
        "asyn_fifo": "uses break",
        "ring_counter": "initialises an array",
        "radix2_div": "its reference is wrong",
        "clkgenerator": "race between bench and design",
    },
}


def known_bad(suite: str, task: str) -> str | None:
    """Why a task's reference is known to fail, or None.

    v2 tasks are looked up by their number: "Prob099_m2014_q6c" finds "Prob099".
    """
    tasks = KNOWN_BAD.get(suite, {})
    return tasks.get(task) or tasks.get(task.split("_", 1)[0])

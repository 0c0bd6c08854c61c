"""From what the tools said to a class of outcome.

Classes and their letters are those of VerilogEval v2 (`scripts/sv-iv-analyze`), so that
tables can be compared; "refused", "empty" and "no_result" (their R) are ours.
"""

from __future__ import annotations

import re

CODES = {
    "pass": ".",
    "syntax": "S",
    "explicit_cast": "e",
    "zero_size": "0",
    "no_sensitivity": "n",
    "assigned_wire": "w",
    "unknown_module": "m",
    "unbound_name": "p",
    "unbound_clk": "c",
    "compile": "C",
    "timeout": "T",
    "mismatch_reset": "r",
    "mismatch": "R",
    "no_result": "R",
    "refused": "x",
    "empty": "-",
}
# In the authors' order: on each line of the log the first that fits ends the search.
_IMMEDIATE = (
    ("syntax error", "syntax"),
    ("error: This assignment requires an explicit cast", "explicit_cast"),
    ("error: Sized numeric constant must have a size greater than zero", "zero_size"),
    ("warning: always_comb process has no sensitivities", "no_sensitivity"),
    ("found no sensitivities so it will never trigger", "no_sensitivity"),
    ("is declared here as wire", "assigned_wire"),
    ("Unknown module type", "unknown_module"),
    ("Unable to bind wire/reg/memory `clk'", "unbound_clk"),
)
_ASYNC_RESET = re.compile(r"(?:pos|neg)edge reset|posedge r\)")


def classify_log(log: str, *, compiled: bool = False) -> str | None:
    """The class that a compiler log shows, or None.

    Like the authors, a missing sensitivity counts though it is only a warning; unlike them,
    the word "error" does not in the log of a design that compiled (it may be a signal's name).
    """
    unbound = error = False
    for line in log.split("\n"):
        for text, outcome in _IMMEDIATE:
            if text in line:
                return outcome
        unbound = unbound or "Unable to bind wire/reg" in line
        error = error or "error" in line
    if compiled:
        return None
    return "unbound_name" if unbound else "compile" if error else None


def classify_mismatch(code: str) -> str:
    """Mismatches of a design with an asynchronous reset are a class of their own."""
    return "mismatch_reset" if _ASYNC_RESET.search(code) else "mismatch"


def counts(output: str, mark: str = "") -> tuple[int, int] | None:
    """(mismatches, samples) of the bench's verdict: the last one, whoever printed the others.

    Args:
        mark: What the bench puts after "Mismatches", so that only its own lines count.
    """
    verdict = rf"^Mismatches{re.escape(mark)}: (\d+) in (\d+) samples\s*$"
    found = re.findall(verdict, output, re.MULTILINE)
    return (int(found[-1][0]), int(found[-1][1])) if found else None

"""The bench contract: what a prompt's `meta` says about how its answers are checked.

See docs/verilog.md, "Own benches". Read before anything is sampled (`problems`), so that a
prompt without a usable bench is found in time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from itercli.errors import IterError
from itercli.records import Prompt
from itercli.verifiers.verilog_harness import HARNESSES, Harness, harness

WITHOUT = "score without one (itertl.quality with verify: false and score_rule: quality)"
_TYPES: dict[str, tuple[type, str]] = {
    "bench": (str, "text"),
    "header": (str, "text"),
    "top": (str, "text"),
    "reference_name": (str, "text"),
    "samples": (int, "a whole number"),
    "warnings_fail": (bool, "true or false"),
    "harness": (str, f"one of {', '.join(HARNESSES)}"),
    "pass_line": (str, "text"),
    "files": (dict, "a mapping of file names to texts"),
    "cpu_seconds": (int, "a whole number"),
    "sim_time": (int, "a whole number"),
}
_SUITES = {"verilogeval-v2": "verilogeval-v2", "verilogeval-human": "verilogeval-v1"}


class NoBench(IterError, ValueError):
    """A prompt that can't be verified."""


@dataclass(frozen=True)
class Task:
    """What a prompt's meta says about its check.

    Attributes:
        bench: Test bench, with the reference module if it compares with one.
        samples: How many samples an honest run reports, or None if not known.
        warnings_fail: A compiler's warning fails the sample.
        pass_line: What the bench prints if, and only if, the design passes; None: it prints
            "Mismatches: N in M samples".
        files: Data files that the bench reads: (plain name, text).
    """

    bench: str
    header: str
    top: str
    reference_name: str
    reference: str | None
    samples: int | None
    harness: Harness
    warnings_fail: bool
    pass_line: str | None
    files: tuple[tuple[str, str], ...]
    cpu_seconds: int
    sim_time: int | None

    @classmethod
    def of(cls, prompt: Prompt) -> Task:
        """Read a prompt's meta.

        Raises:
            NoBench: There is no bench, or it breaks the contract.
        """
        wrong = problem(prompt)
        if wrong:
            raise NoBench(f"prompt {prompt.id!r}: {wrong}")
        meta = prompt.meta
        kind = harness(meta.get("harness") or _SUITES.get(str(meta.get("suite")), "own"))
        return cls(
            bench=meta["bench"],
            header=meta.get("header") or "",
            top=meta.get("top") or "top_module",
            reference_name=meta.get("reference_name") or "reference_module",
            reference=prompt.reference,
            samples=meta.get("samples"),
            harness=kind,
            warnings_fail=bool(meta.get("warnings_fail", kind.warnings_fail)),
            pass_line=meta.get("pass_line") or kind.pass_line,
            files=tuple(sorted((meta.get("files") or {}).items())),
            cpu_seconds=meta.get("cpu_seconds") or kind.cpu_seconds,
            sim_time=meta.get("sim_time") or kind.sim_time,
        )


def problem(prompt: Prompt) -> str | None:
    """How a prompt breaks the bench contract, with the fix; None if it does not."""
    meta: Mapping[str, Any] = prompt.meta
    if meta.get("bench") is None:
        return f"it has no test bench: give it one in meta['bench'], or {WITHOUT}"
    for name, (kind, words) in _TYPES.items():
        value = meta.get(name)
        if value is None:
            continue
        number = not isinstance(value, bool) and isinstance(value, int) and value >= 1
        if not isinstance(value, kind) or (kind is int and not number):
            return f"meta[{name!r}] is {value!r:.60}; it must be {words}"
    if meta.get("harness") is not None and meta["harness"] not in HARNESSES:
        return f"meta['harness'] is {meta['harness']!r}; it must be one of {', '.join(HARNESSES)}"
    for name, text in (meta.get("files") or {}).items():
        if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", str(name)):
            return f"meta['files'] has {name!r:.60}; it must map plain file names to texts"
    top = meta.get("top") or "top_module"
    if not re.search(rf"(?<![\w$]){re.escape(top)}(?![\w$])", meta["bench"]):
        return f"its test bench does not instantiate {top!r}; name the module that it asks for in meta['top']"
    return None

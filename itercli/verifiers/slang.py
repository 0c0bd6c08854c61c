"""Asks pyslang about untrusted Verilog without risk for the program that asks.

Parsing is linear, but deep trees overflow the stack; elaboration has no bound at all (a
hundred characters can ask for 10^8 instances). So elaboration and the parsing of long texts
run in the sandbox, with limits of time and memory; short texts are parsed here, which
takes microseconds instead of a tenth of a second.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from itercli.engine import sandbox
from itercli.verifiers import slang_guest

# A tree of this many characters is at most some thousand levels deep; threads have stacks for that.
PARSED_HERE = 6000
LIMITS = sandbox.Limits(wall=20, cpu=3, memory=512 << 20)
TOO_MUCH = "too much to check"


@dataclass(frozen=True)
class View:
    """What pyslang says.

    Attributes:
        errors: Names of syntax errors.
        first: The first one with its line.
        does: Whether the text drives a value.
        unknown: Modules that are instantiated and not defined; only where it was asked for.
        refused: Why there is no answer: the check took more than its limits.
    """

    errors: tuple[str, ...] = ()
    first: str = ""
    does: bool = False
    unknown: tuple[str, ...] = ()
    refused: str = ""


def has_pyslang() -> bool:
    """Whether pyslang can be imported (it is not imported)."""
    return importlib.util.find_spec("pyslang") is not None


def view(code: str, *, elaborate: bool = False) -> View:
    """Parse a text; elaborate it too if asked.

    Raises:
        SandboxError: The sandbox failed; says nothing about the text.
    """
    # A lone surrogate is no text for a parser in C++.
    code = code.encode("utf-8", "replace").decode("utf-8")
    if not elaborate and len(code) <= PARSED_HERE and "`include" not in code and "`define" not in code:
        found = slang_guest.look(code, elaborate=False)
        return View(tuple(found["errors"]), found["first"], found["does"])
    return _guest(code, elaborate)


def _guest(code: str, elaborate: bool) -> View:
    spec = importlib.util.find_spec("pyslang")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    packages = package.parent if package.name == "pyslang" else package
    python = os.path.realpath(sys.executable)
    asked = {"path": str(packages), "code": code, "elaborate": elaborate}
    with sandbox.tempdir() as folder:
        script = folder / "slang_guest.py"
        script.write_bytes(Path(slang_guest.__file__).read_bytes())
        done = sandbox.run(
            [python, "-I", "-S", str(script)],
            cwd=folder,
            limits=LIMITS,
            stdin=json.dumps(asked).encode(),
            readable=(sys.base_prefix, str(packages)),
        )
    try:
        found = json.loads(done.stdout)
        return View(tuple(found["errors"]), found["first"], found["does"], tuple(found["unknown"]))
    except (ValueError, KeyError, TypeError):
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1][:200]
        if done.reason == "exit" and done.returncode not in (0, 1, 127) and not said:
            said = f"exit code {done.returncode}"
        if done.reason == "exit" and "MemoryError" not in said and "bad_alloc" not in said and said:
            raise sandbox.SandboxError(f"pyslang in the sandbox: {said}") from None
        why = "memory" if "Memory" in said or "alloc" in said else done.reason
        return View(refused=f"{TOO_MUCH} ({why})")

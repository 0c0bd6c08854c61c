"""Static checks of Verilog: does it parse, does it stand on its own.

pyslang does both, in the sandbox where it must (`slang`); without it Icarus is asked. It is
stricter than Icarus, so it serves as a filter of training data, not as a verdict.
"""

from __future__ import annotations

import re

from itercli.engine import sandbox
from itercli.errors import IterError
from itercli.verifiers.slang import LIMITS, TOO_MUCH, has_pyslang, view
from itercli.verifiers.verilog_text import code_tokens, modules, ports
from itercli.verifiers.verilog_tools import find_icarus
from itercli.verifiers.verilog_units import is_stub, is_testbench

_UNKNOWN = re.compile(r"Unknown module type: (\S+)")


class TooMuch(IterError):
    """A text whose check takes more than its limits."""


def syntax_errors(code: str) -> list[str]:
    """Why a text does not parse; empty if it does. An empty text does not."""
    if not code.strip():
        return ["no code"]
    if has_pyslang():
        found = view(code)
        return [found.refused] if found.refused else list(found.errors)
    log = _icarus_log(code)
    # Icarus says one of these when it stops before elaboration.
    if not re.search(r"syntax error|I give up\.", log):
        return []
    return [line for line in log.split("\n") if "error" in line.lower()][:5]


def unknown_modules(code: str) -> list[str]:
    """Modules that the text instantiates and does not define.

    Raises:
        TooMuch: Finding out takes more than the limits of the check.
    """
    if not has_pyslang():
        return sorted(set(_UNKNOWN.findall(_icarus_log(code))))
    found = view(code, elaborate=True)
    if found.refused:
        raise TooMuch(found.refused)
    return list(found.unknown)


def self_contained(code: str, header: str, top: str | None = None) -> list[str]:
    """Why code cannot be used on its own; empty if it can.

    One reading of ITERTL's filter for "self-contained modules" (arXiv 2407.12022 v3, whose
    details are not published): a module and its `endmodule`, name and ports of the header,
    every instantiated module defined, no `include`, not a mere stub, no test bench.

    Args:
        code: The extracted code.
        header: Header of the asked-for module; empty: ports are not compared.
        top: Its name; by default the header's, else the code's first module.
    """
    found = modules(code)
    if not found:
        return ["no module with its endmodule"]
    tokens = code_tokens(code)
    if top is None:
        asked = re.search(r"\bmodule\s+\\?([A-Za-z_][\w$]*)", header)
        top = asked.group(1) if asked else found[0].name
    reasons = []
    if any(t.text == "`include" for t in tokens):
        reasons.append("includes another file")
    tests = [m.name for m in found if m.name != top and is_testbench(m.name)]
    if tests or any(t.text in ("$finish", "$stop", "$dumpfile", "$dumpvars", "$monitor") for t in tokens):
        reasons.append(f"holds a test bench{': ' + tests[0] if tests else ''}")
    main = next((m for m in found if m.name == top), None)
    if main is None:
        reasons.append(f"no module {top}; has {', '.join(m.name for m in found)}")
    else:
        text = code[main.start : main.end]
        wrong = _port_differences(text, header)
        if wrong:
            reasons.append(wrong)
        if is_stub(text):
            reasons.append(f"module {top} has no body")
    bad_syntax = syntax_errors(code)
    if bad_syntax:
        return [*reasons, f"does not parse: {bad_syntax[0]}"]
    if "includes another file" not in reasons:
        try:
            reasons += [f"module {name} is not defined" for name in unknown_modules(code)]
        except TooMuch as error:
            reasons.append(str(error))
    return reasons


def _port_differences(module: str, header: str) -> str | None:
    wanted, got = ports(header), ports(module)
    if not wanted or not got:  # no header, or the old style with directions in the body: not compared
        return None
    missing, extra = sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys())
    if missing:
        return f"port {missing[0]} is missing"
    if extra:
        return f"port {extra[0]} is not in the header"
    turned = sorted(name for name in wanted if wanted[name] != got[name])
    return f"port {turned[0]} is an {got[turned[0]]}" if turned else None


def _icarus_log(code: str) -> str:
    icarus = find_icarus()
    with sandbox.tempdir() as folder:
        (folder / "sample.sv").write_text(code, encoding="utf-8", errors="replace")
        library = ["-B", icarus.ivl_dir] if icarus.ivl_dir else []
        argv = [icarus.iverilog, *library, "-g2012", "-t", "null", "sample.sv"]
        done = sandbox.run(argv, cwd=folder, readable=icarus.readable, limits=LIMITS)
    log = done.stderr.decode("utf-8", "replace")
    if done.returncode and not log:
        raise TooMuch(f"{TOO_MUCH} ({done.reason})")
    return log

"""Takes out of a candidate what only prints: a debugging $display is no cheat.

Statements of tasks that print, dump or report are replaced by nothing, before the scan of
`verilog_rules`: so whatever is left of them is still refused, and the compiled program must
not call them. Nothing that the design computes depends on them. So are $finish and $stop under
a condition of parameters alone (`if (WIDTH < 1) $finish;`), which never fires in a design
that works. Other tasks that end the simulation or touch files stay to be refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from itercli.verifiers.verilog_text import Token, code_tokens

_BASES = ("display", "write", "strobe", "monitor")
PRINTING = frozenset(
    {f"${base}{radix}" for base in _BASES for radix in ("", "b", "o", "h")}
    | {"$monitoron", "$monitoroff", "$info", "$warning", "$error", "$fatal", "$timeformat", "$printtimescale"}
    | {f"$dump{what}" for what in ("file", "vars", "on", "off", "all", "limit", "flush")}
)
_AFTER_STATEMENT = frozenset({";", "begin", "end", "endcase", "endfunction", "endgenerate", "fork"})
_CONDITIONS = ("`ifdef", "`ifndef", "`elsif")
_UNFIT = (";", "\\", *_CONDITIONS, "`else", "`endif")  # in the arguments of a call
_DIRECTIVES = (*_CONDITIONS, "`else", "`endif")


def neutralised(code: str) -> str:
    """The code without statements that only print; its lines keep their numbers."""
    if "$" not in code:
        return code
    code = _replaced(code, lambda tokens, i: tokens[i].text in PRINTING)
    if "$finish" not in code and "$stop" not in code:
        return code
    constants = _constants(code_tokens(code))
    return _replaced(code, lambda tokens, i: _never_ends(tokens, i, constants))


def _replaced(code: str, wanted: Callable[[list[Token], int], bool]) -> str:
    """The code without the wanted calls of system tasks."""
    tokens = code_tokens(code)
    parts: list[str] = []
    at = i = 0
    while i < len(tokens):
        end = _call(tokens, i) if tokens[i].kind == "system" and wanted(tokens, i) else None
        if end is None:
            i += 1
            continue
        start, stop = tokens[i].start, tokens[end].start + 1
        parts += [code[at:start], "" if _stands_alone(tokens, i) else "begin end"]
        parts.append("\n" * code.count("\n", start, stop))
        at, i = stop, end + 1
    return _without_empty_processes("".join([*parts, code[at:]])) if parts else code


def _constants(tokens: list[Token]) -> set[str]:
    """Names of parameters."""
    found: set[str] = set()
    inside = False
    for i, token in enumerate(tokens[:-1]):
        if token.text in ("parameter", "localparam"):
            inside = True
        elif token.text in (";", "input", "output", "inout"):
            inside = False
        elif inside and token.kind == "name" and tokens[i + 1].text == "=":
            found.add(token.text)
    return found


def _never_ends(tokens: list[Token], i: int, constants: set[str]) -> bool:
    """Whether the $finish or $stop at `i` is the body of an `if` over parameters, or ends its block."""
    if tokens[i].text not in ("$finish", "$stop"):
        return False
    j = i - 1
    while j >= 1 and tokens[j].text == "end" and tokens[j - 1].text == "begin":  # an output before it
        j -= 2
    if j >= 2 and tokens[j - 1].text == ":" and tokens[j - 2].text == "begin":
        j -= 2
    if j >= 0 and tokens[j].text == "begin":
        j -= 1
    if j < 0 or tokens[j].text != ")":
        return False
    depth = 0
    for k in range(j, -1, -1):
        text = tokens[k].text
        depth += (text == ")") - (text == "(")
        if depth == 0:
            return k > 0 and tokens[k - 1].text == "if"
        if tokens[k].kind == "name" and text not in constants:
            return False
        if tokens[k].kind not in ("name", "number", "other") and text != "$clog2":
            return False
    return False


def _call(tokens: list[Token], i: int) -> int | None:
    """Index of the semicolon that ends the statement at `i`; None if it is no plain statement."""
    depth = 0
    for j in range(i + 1, len(tokens)):
        text = tokens[j].text
        if text == "(":
            depth += 1
        elif text == ")":
            depth -= 1
        elif depth == 0:
            return j if text == ";" else None
        elif text in _UNFIT or text in PRINTING:
            return None
    return None


def _stands_alone(tokens: list[Token], i: int) -> bool:
    """Whether a statement can go without one in its place: it is not the body of something."""
    j = i - 1
    while j >= 0:
        if tokens[j].text in ("`else", "`endif"):
            j -= 1
        elif j >= 1 and tokens[j - 1].text in _CONDITIONS:
            j -= 2
        else:
            break
    if j >= 2 and tokens[j - 1].text == ":" and tokens[j - 2].text in ("begin", "end", "fork"):
        return True  # after a label
    return j >= 0 and tokens[j].text in _AFTER_STATEMENT


def _without_empty_processes(code: str) -> str:
    """Drop `always @*` and the like whose body is empty now: it would have no sensitivities."""
    tokens = code_tokens(code)
    for i in range(len(tokens) - 1, -1, -1):
        if tokens[i].text not in ("always", "always_comb", "always_latch"):
            continue
        j = i + 1
        while j < len(tokens) and tokens[j].text in ("@", "(", "*", ")"):
            j += 1
        depth, first = 0, j
        while j < len(tokens) and tokens[j].text in ("begin", "end"):
            depth += 1 if tokens[j].text == "begin" else -1
            j += 1
            if j + 1 < len(tokens) and tokens[j].text == ":":  # a label
                j += 2
            if depth == 0:
                break
        if j > first and depth == 0:
            start, stop = tokens[i].start, tokens[j - 1].start + len(tokens[j - 1].text)
            code = code[:start] + re.sub(r"[^\n]", " ", code[start:stop]) + code[stop:]
    return code

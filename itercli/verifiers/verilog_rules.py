"""What a candidate may not contain; checked before any tool runs.

Each rule closes a way to win without solving the task, or to reach outside: printing the
verdict, ending the simulation, reading or writing files, driving the bench's signals,
using its reference. The bench is hardened too (`verilog_bench`), and what the compiler made
of the candidate is checked once more (`smuggled`), so that a trick in the text which this
scanner misreads does not get through.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from itercli.verifiers.verilog_text import KEYWORDS, Token, plain, tokens

# Functions without side effects. $random and $urandom would shift the bench's stimulus.
ALLOWED_TASKS = frozenset(
    """
    $signed $unsigned $clog2 $bits $size $left $right $high $low $increment $dimensions
    $unpacked_dimensions $countones $countbits $onehot $onehot0 $isunknown $rtoi $itor $realtobits
    $bitstoreal $floor $ceil $pow $sqrt $ln $log10 $exp $abs $min $max $cast $time $stime $realtime
    """.split()  # noqa: SIM905
)
ALLOWED_DIRECTIVES = frozenset(
    """
    `define `undef `ifdef `ifndef `else `elsif `endif `timescale `default_nettype `resetall
    `celldefine `endcelldefine `unconnected_drive `nounconnected_drive
    """.split()  # noqa: SIM905
)
# Reserved even as macro names: what the tools give a meaning.
RESERVED_DIRECTIVES = ALLOWED_DIRECTIVES | frozenset(
    """
    `include `line `pragma `uselib `protect `endprotect `begin_keywords `end_keywords `undefineall
    `__FILE__ `__LINE__ `accelerate `noaccelerate `delay_mode_path `suppress_faults
    `enable_portfaults
    """.split()  # noqa: SIM905
)
FORBIDDEN_WORDS = {
    "force": "drives signals from outside their design",
    "release": "drives signals from outside their design",
    "alias": "joins nets",
    "bind": "adds to other modules",
    "program": "ends the simulation when it ends",
    "config": "chooses other modules",
    "export": "exports to foreign code",
    "extern": "declares foreign code",
    **dict.fromkeys(("tran", "tranif0", "tranif1", "rtran", "rtranif0", "rtranif1"), "joins nets both ways"),
}
_ESCAPED = re.compile(r"\\[A-Za-z0-9_$.\[\]<>:+=@#-]+", re.ASCII)
_DEFINES = frozenset({"module", "macromodule", "interface", "package", "class", "primitive"})
_MACRO_LINE = re.compile(r"`define\b(?:[^\\\n]|\\.|\\\n)*", re.DOTALL)


def refusal(
    code: str,
    *,
    top: str,
    forbidden: Iterable[str] = (),
    macros: Iterable[str] = (),
    strict: bool = True,
) -> str | None:
    """Why a candidate is refused, or None.

    Args:
        code: The extracted code.
        top: Name of the module that is asked for.
        forbidden: Names of the bench that it must neither use nor define: its reference
            module, its top, its helper modules.
        macros: Macros of a bench that is compiled after it.
        strict: Refuse those names wherever they stand; else only where they define or
            instantiate a module, begin a path or stand in a macro, which is enough for a bench
            whose names are random.
    """
    odd = re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", code)
    if odd:
        return f"control character {odd.group()!r}"
    stream = list(tokens(code))
    code_only = [t for t in stream if t.kind not in ("space", "comment")]
    own = {code_only[i + 1].text for i, t in enumerate(code_only[:-1]) if t.text == "`define"}
    names = frozenset(forbidden) - {top}
    bodies = [m.span() for m in _MACRO_LINE.finditer(code)]
    for i, token in enumerate(code_only):
        before = code_only[i - 1].text if i else ""
        following = code_only[i + 1] if i + 1 < len(code_only) else None
        reason = _refuse_token(token, following, own)
        if reason is None and token.kind in ("name", "escaped") and plain(token) in names:
            in_macro = any(start <= token.start < end for start, end in bodies)
            if strict or in_macro or _reaches(before, following):
                reason = f"name {plain(token)!r} of the test bench"
        if reason is None and before in ("`define", "`undef") and token.text in macros:
            reason = f"macro {token.text!r} of the test bench"
        if reason:
            line = code.count("\n", 0, token.start) + 1
            return f"line {line}: {reason}"
    return _refuse_glue(stream)


def _reaches(before: str, following: Token | None) -> bool:
    """Whether a name defines or instantiates a module or begins a path, judged by its neighbours."""
    if before in _DEFINES or before == "bind":
        return True
    if following is None:
        return False
    names = following.kind in ("name", "escaped") and following.text not in KEYWORDS
    return names or following.text in (".", "#")


def _refuse_token(token: Token, following: Token | None, macros: set[str]) -> str | None:
    after = following.text if following else ""
    text = token.text
    match token.kind:
        case "system" if text == "$":
            # The last element of a queue or the end of a range, never the start of a task's name.
            return None if after in ("]", ":", ")", ",") and not macros else "a lone $"
        case "system" if text not in ALLOWED_TASKS:
            return f"system task {text}"
        case "directive" if text in ("`define", "`undef") and f"`{after}" in RESERVED_DIRECTIVES:
            return f"{text} of the directive `{after}"
        case "directive" if text in ALLOWED_DIRECTIVES:
            return None
        case "directive" if text in ("``", '`"', '`\\`"', "`"):
            return "a macro that puts tokens together"
        case "directive" if text in RESERVED_DIRECTIVES or text[1:] not in macros:
            return f"directive {text}"
        case "escaped" if not _ESCAPED.fullmatch(text):
            return f"escaped identifier {text[:40]}"
        case "other" if text == '"':
            return "a string that does not end on its line"
        case "other" if not text.isascii():
            return f"character {text!r}"
        case "name" if text in FORBIDDEN_WORDS:
            return f"{text!r} {FORBIDDEN_WORDS[text]}"
        case "name" if text == "import" and following is not None and following.kind == "string":
            return "import of foreign code"
    return None


def _refuse_glue(stream: list[Token]) -> str | None:
    """A macro that stands right after a word becomes part of it: $`F with F = finish."""
    for before, token in pairwise(stream):
        use = token.kind == "directive" and token.text not in ALLOWED_DIRECTIVES
        if use and before.kind in ("name", "system", "escaped", "directive"):
            return f"{token.text} joined to {before.text!r}"
    return None


_CALL = re.compile(
    rb'^\s*(?:%vpi_(?:call|func)\S*\s+(\d+)\s+\d+|\S+\s+\.sfunc\S*\s+(\d+)\s+\d+)\s*"(\$[^"]*)"', re.M
)
_FORCE = re.compile(rb"^\s*(?:\S+\s+)?(%(?:force|release)|\.island tran)\b", re.M)
_FILES = re.compile(rb"^:file_names \d+;\n(.*)", re.M | re.S)


def calls(program: bytes) -> Counter[str]:
    """System tasks called and signals forced in a compiled program (Icarus's vvp format)."""
    found = Counter(m.group(3).decode("latin-1") for m in _CALL.finditer(program))
    found.update(m.group(1).decode("latin-1") for m in _FORCE.finditer(program))
    return Counter({name: n for name, n in found.items() if name not in ALLOWED_TASKS})


_COERCED = re.compile(r"warning: input port (\S+) is coerced to inout")
_PORT = re.compile(rb'^\s*\.port_info \d+ /(\w+) \d+ "([^"]*)"', re.M)


def drives_inputs(program: bytes, log: str, top: str, directions: dict[str, str]) -> str | None:
    """How a candidate gets hold of the bench's wires through its own inputs, or None.

    Args:
        program: The compiled bench and candidate.
        log: The compiler's log, with all warnings on.
        top: Name of the asked-for module.
        directions: Direction of each of its ports.
    """
    coerced = _COERCED.search(log)
    if coerced:
        return f"drives the input {coerced.group(1)}"
    for block in program.split(b".scope ")[1:]:
        if not re.match(rb'module, "[^"]*" "' + re.escape(top.encode()) + rb'"', block):
            continue
        for direction, name in _PORT.findall(block):
            port = name.decode("latin-1")
            if directions.get(port) == "input" and direction != b"INPUT":
                return f"declares the input {port} as {direction.decode('latin-1').lower()}"
    return None


def smuggled(program: bytes, candidate: str, bench: str, expected: Counter[str] | None) -> str | None:
    """What the candidate got past the scanner, judged by the compiled program; or None.

    Args:
        program: The compiled bench and candidate.
        candidate: File name of the candidate.
        bench: Text of the bench.
        expected: `calls` of the bench with its reference; None if not known.
    """
    files = _FILES.search(program)
    table = re.findall(rb'"([^"]*)"', files.group(1)) if files else []
    for match in _CALL.finditer(program):
        index, name = int(match.group(1) or match.group(2)), match.group(3).decode("latin-1")
        file = table[index].decode("latin-1") if index < len(table) else ""
        if file == candidate and name not in ALLOWED_TASKS:
            return f"system task {name}"
    found = calls(program)
    if expected is not None:
        more = found - expected
        if more:
            return f"{min(more)} where the bench has none"
        return None
    # Forced and shorted signals carry no file: they are the bench's only if it has such words.
    joined = [name for name in found if not name.startswith("$")]
    if joined and not re.search(r"\b(?:force|release|r?tran)", bench):
        return f"{joined[0]} where the bench has none"
    return None

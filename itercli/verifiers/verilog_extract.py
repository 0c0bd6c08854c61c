"""From what a model wrote to the code that is judged.

The steps of RTLCoder's and VerilogEval v2's post-processing (their `test_on_*` scripts and
`sv-generate`), made one: fences, [BEGIN]/[DONE], text around the code, a trailing test
bench, a model that does not stop.
"""

from __future__ import annotations

import re
from itertools import pairwise

from itercli.verifiers.verilog_text import code_tokens, modules, plain

_FENCE = re.compile(r"^[ \t]*```[^\n]*$", re.MULTILINE)
_START = re.compile(
    r"^[ \t]*(?:(?:module|macromodule|package|interface|primitive)\s+(?:automatic\s+|static\s+)?"
    r"\\?[A-Za-z_][\w$]*\s*(?:\#|\(|;|import\b)|typedef\b|import\s+[A-Za-z_]|`(?:define|timescale|default_nettype|ifdef|ifndef)\b)",
    re.MULTILINE | re.ASCII,
)
_TESTBENCH = re.compile(r"^(?:tb|test_?bench)(?:_|\d|$)|_(?:tb|test_?bench)\d*$|^test_", re.IGNORECASE)


def extract(completion: str, header: str = "", top: str = "top_module") -> str:
    """The Verilog in a completion.

    Args:
        completion: What the model wrote.
        header: The module header that the prompt ended with; put before a completion that
            goes on with the body.
        top: Name of the module that is asked for.

    Returns:
        The code, ending with a newline; empty if there is none.
    """
    text = _cut_runaway(_unwrap(completion.replace("\r\n", "\n")))
    if not text.strip():
        return ""
    if _is_body(text):
        text = _separate(header) + text if header else text
    else:
        start = _START.search(text)
        text = text[start.start() :] if start else text
    text = _cut_second(text, top)
    text = _drop_testbench(text, top)
    found = modules(text)
    if found:
        text = text[: found[-1].end]
    return text.strip("\n") + "\n"


def _separate(header: str) -> str:
    return header if header.endswith("\n") else header + "\n"


def _unwrap(text: str) -> str:
    """What stands between [BEGIN] and [DONE], or in the first code fence that holds a module."""
    if "[BEGIN]" in text:
        text = text.split("[BEGIN]", 1)[1]
    text = text.split("[DONE]", 1)[0]
    pieces = _FENCE.split(text)
    if len(pieces) == 1:
        return text
    # With a fence opened in the prompt, the first piece is the code and the fence closes it.
    inside, outside = [p.removeprefix("\n") for p in pieces[1::2]], pieces[0::2]
    whole = [p for p in inside if re.search(r"\bendmodule", p)]
    if whole:
        return whole[0]
    if re.search(r"\bendmodule", outside[0]):
        return outside[0]
    return next((p for p in inside if p.strip()), outside[0])


def _cut_runaway(text: str) -> str:
    """Models that do not stop glue the next module to the last word (seen with DeepSeek-Coder)."""
    glued = re.search(r"\bendmodule(?=(?:macro)?module\b)", text)
    return text[: glued.end()] if glued else text


def _is_body(text: str) -> bool:
    """Whether the first module was opened by the prompt."""
    for token in code_tokens(text):
        if token.text == "endmodule":
            return True
        if token.text in ("module", "macromodule"):
            # Prose has the word too; only a declaration counts.
            return _START.search(text) is None and not re.search(r"\bmodule\s+[\w$\\]+\s*[#(;]", text)
    return True


def _cut_second(text: str, top: str) -> str:
    """Cut before a second module of the asked-for name."""
    code = [t for t in code_tokens(text) if t.kind in ("name", "escaped")]
    at = [a.start for a, b in pairwise(code) if a.text == "module" and plain(b) == top]
    return text[: at[1]] if len(at) > 1 else text


def is_testbench(name: str) -> bool:
    """Whether a module is named like a test bench."""
    return _TESTBENCH.search(name) is not None


def _drop_testbench(text: str, top: str) -> str:
    found = modules(text)
    if not any(m.name == top for m in found):
        return text
    for module in reversed(found):
        if module.name != top and is_testbench(module.name):
            text = text[: module.start] + text[module.end :]
    return text

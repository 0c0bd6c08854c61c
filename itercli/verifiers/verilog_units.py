"""Modules of a Verilog text: where each is declared, what it instantiates, whether it does anything.

A declaration counts only with the shape of one (`module name #(...) (...);`), because the
texts are completions, in which the word stands in sentences too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from itercli.verifiers.verilog_text import KEYWORDS, Token, code_tokens, label_end, plain

_TESTBENCH = re.compile(r"^(?:tb|test_?bench)(?:_|\d|$)|_(?:tb|test_?bench)\d*$|^test_", re.IGNORECASE)
_OPEN, _CLOSE = ("(", "[", "{"), (")", "]", "}")
_STATEMENTS = frozenset(
    """
    assign always always_comb always_ff always_latch initial generate case if for and or not nand nor xor xnor
    buf bufif0 bufif1 notif0 notif1 function
    """.split()  # noqa: SIM905
)


class Declaration(NamedTuple):
    """A module as it stands in a text.

    Attributes:
        start: Offset of `module`.
        body: Offset after the header's semicolon.
        end: Offset after `endmodule` and its label; None if the text or the next declaration
            comes first.
    """

    name: str
    start: int
    body: int
    end: int | None


def declarations(text: str) -> list[Declaration]:
    """All module declarations, in order."""
    code = code_tokens(text)
    found: list[Declaration] = []
    current: Declaration | None = None
    i = 0
    while i < len(code):
        token = code[i]
        if token.kind == "name" and token.text in ("module", "macromodule"):
            header = _header(code, i)
            if header is not None:
                if current is not None:
                    found.append(current)
                name, i = header
                current = Declaration(name, token.start, code[i].start + 1, None)
        elif token.text == "endmodule" and current is not None:
            found.append(current._replace(end=label_end(code, i)))
            current = None
        i += 1
    return [*found, current] if current is not None else found


def _header(code: list[Token], at: int) -> tuple[str, int] | None:
    """Name and index of the semicolon of the header that starts at `at`; None if it is none."""
    i = at + 1
    if i < len(code) and code[i].text in ("automatic", "static"):
        i += 1
    if i >= len(code) or code[i].kind not in ("name", "escaped") or code[i].text in KEYWORDS:
        return None
    name = plain(code[i])
    i += 1
    while i < len(code) and code[i].text == "import":
        while i < len(code) and code[i].text != ";":
            i += 1
        i += 1
    if i < len(code) and code[i].text == "#":
        i += 1
        if i >= len(code) or code[i].text != "(":
            return None
        i = _closed(code, i)
    if i < len(code) and code[i].text == "(":
        i = _closed(code, i)
    return (name, i) if i < len(code) and code[i].text == ";" else None


def _closed(code: list[Token], at: int) -> int:
    """Index after the bracket that closes the one at `at`; the end of the code if nothing does."""
    depth = 0
    for i in range(at, len(code)):
        if code[i].text in (";", "module", "macromodule", "endmodule"):
            break  # no port list holds these
        if code[i].text in _OPEN:
            depth += 1
        elif code[i].text in _CLOSE:
            depth -= 1
            if depth == 0:
                return i + 1
    return len(code)


def instantiated(text: str, names: Iterable[str]) -> set[str]:
    """Which of the modules `names` a text instantiates: a name followed by a name or by parameters."""
    wanted = set(names)
    code = code_tokens(text)
    found = set()
    for i, token in enumerate(code[:-1]):
        name = plain(token)
        if token.kind not in ("name", "escaped") or name not in wanted:
            continue
        before, after = code[i - 1].text if i else "", code[i + 1]
        instance = after.kind in ("name", "escaped") and after.text not in KEYWORDS
        if before not in ("module", "macromodule", ".") and (instance or after.text in ("#", "(")):
            found.add(name)
    return found


def is_testbench(name: str) -> bool:
    """Whether a module is named like a test bench."""
    return _TESTBENCH.search(name) is not None


def drop_benches(text: str, top: str) -> str:
    """The text without test benches that were appended to it.

    A bench is a module that the asked-for one does not need and that is named like a bench or
    instantiates the asked-for one, directly or not.
    """
    found = [d for d in declarations(text) if d.end is not None]
    bodies = {d.name: text[d.body : d.end] for d in found}
    if top not in bodies or len(found) == 1:
        return text
    uses = {name: instantiated(body, bodies.keys() - {name}) for name, body in bodies.items()}
    needed = _reach(uses, top)
    for d in reversed(found):
        if d.name not in needed and (is_testbench(d.name) or top in _reach(uses, d.name)):
            text = text[: d.start] + text[d.end :]
    return text


def _reach(uses: dict[str, set[str]], start: str) -> set[str]:
    seen, todo = {start}, [start]
    while todo:
        new = uses.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def is_stub(module: str) -> bool:
    """Whether a module has no statement, gate or instance between header and `endmodule`."""
    code = code_tokens(module)
    end = next((i for i, t in enumerate(code) if t.text == ";"), len(code))
    body = code[end + 1 : -1]
    for i, token in enumerate(body):
        if token.kind == "name" and token.text in _STATEMENTS:
            return False
        starts = i == 0 or body[i - 1].text in (";", "end", "begin")
        if starts and token.kind in ("name", "escaped") and token.text not in KEYWORDS:
            return False  # an instance
        if token.text == "=":  # a declaration with a value drives something
            words = ("parameter", "localparam", ";")
            if next((t.text for t in reversed(body[:i]) if t.text in words), ";") == ";":
                return False
    return True

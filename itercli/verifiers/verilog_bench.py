"""Makes a test bench hard to cheat.

A bench and a candidate are elaborated together, so whatever the candidate can name it can
read: `good1.out` is the right answer, without any logic. So every identifier of the bench
except the ports of the asked-for module gets a random suffix, new for each check: nothing
in it can be named. The bench's own reference is run first and shows whether the bench stands
that; one that does not keeps its names but for the reference module's.

What can still be reached are the module's own inputs, which are joined to the bench's wires:
a driver, a `force` or a `tran` on them changes what the reference sees, and a reference that
sees X agrees with anything. One-way buffers in between were tried and given up: they change
the order of events, and 2 of VerilogEval-Machine's 143 references then fail. Instead
`verilog_rules` refuses what can drive an input.
"""

from __future__ import annotations

import functools
import secrets
from dataclasses import dataclass
from typing import Literal

from itercli.verifiers.verilog_rules import RESERVED_DIRECTIVES
from itercli.verifiers.verilog_text import KEYWORDS, code_tokens, modules, plain, tokens
from itercli.verifiers.verilog_units import instantiated

Hardening = Literal["renamed", "reference"]
LEVELS: tuple[Hardening, ...] = ("renamed", "reference")

# "$" sorts before every other character of an identifier: names keep their order, and with it
# the order in which a simulator elaborates scopes and starts processes.
_MARK = "\x00"
_BUILTIN = frozenset(
    """
    size delete insert push_back push_front pop_back pop_front first last next prev num name len
    putc getc substr toupper tolower compare icompare atoi atohex atooct atobin atoreal itoa hextoa
    octtoa bintoa realtoa sum product min max unique sort rsort reverse shuffle find find_index
    find_first find_last exists triggered randomize std process self status kill await suspend
    resume get put try_get try_put peek mailbox semaphore step PATHPULSE option type_option
    """.split()  # noqa: SIM905
)
_WHOLE_LINE = ("`timescale", "`default_nettype", "`begin_keywords", "`include", "`line", "`pragma")


@dataclass(frozen=True)
class Bench:
    """A prepared bench.

    Attributes:
        text: The bench with a mark after each name that `render` makes unpredictable.
        root: Name of the module to elaborate, without suffix.
        names: Names of its modules, which a candidate must neither define nor use.
        macros: Macros that it defines, uses or asks for.
        hardening: Which names are marked.
        marked: Whether the bench's verdict line is marked, so that nobody else can print it.
    """

    text: str
    root: str
    names: frozenset[str]
    macros: frozenset[str]
    hardening: Hardening
    marked: bool

    def render(self) -> tuple[str, str, str]:
        """The bench under new names: (text, name of the root, the suffix)."""
        suffix = "$" + secrets.token_hex(8)
        root = self.root + suffix if self.hardening != "reference" else self.root
        return self.text.replace(_MARK, suffix), root, suffix


@functools.lru_cache(maxsize=4096)
def prepare(
    bench: str, header: str, top: str, reference: str, hardening: Hardening, verdict: str = "Mismatches"
) -> Bench:
    """Prepare a bench for checks.

    Args:
        bench: Its text, the reference module included.
        header: Header of the asked-for module; gives the ports.
        top: Its name.
        reference: Name of the reference module.
        hardening: "renamed" (all names), "reference" (that module's only).
        verdict: What the line of the verdict begins with.
    """
    names = {m.name for m in modules(bench)} - {top}
    if hardening == "reference":
        text = "".join(
            t.text + _MARK if t.kind == "name" and t.text == reference else t.text for t in tokens(bench)
        )
    else:
        text = _rename(bench, keep={top, *_identifiers(header), *_connected(bench, top)})
    marked = "".join(
        t.text.replace(verdict, verdict + _MARK) if t.kind == "string" else t.text for t in tokens(text)
    )
    return Bench(
        marked,
        _root(bench, names),
        frozenset({*names, *([reference] if reference else ())}),
        _macros(bench),
        hardening,
        marked != text,
    )


def _root(bench: str, names: set[str]) -> str:
    """The module that no other one of the bench instantiates; `tb` or the last of several."""
    if "tb" in names or not names:
        return "tb"
    found = [m for m in modules(bench) if m.name in names]
    used = {n for m in found for n in instantiated(bench[m.start : m.end], names - {m.name})}
    return next((m.name for m in reversed(found) if m.name not in used), found[-1].name)


def _macros(bench: str) -> frozenset[str]:
    code = code_tokens(bench)
    found = {t.text[1:] for t in code if t.kind == "directive" and t.text not in RESERVED_DIRECTIVES}
    asked = ("`define", "`undef", "`ifdef", "`ifndef", "`elsif")
    return frozenset(found | {code[i + 1].text for i, t in enumerate(code[:-1]) if t.text in asked})


def _connected(bench: str, top: str) -> set[str]:
    """Ports and parameters by which the bench connects the asked-for module: `.clk(clk)`."""
    code = code_tokens(bench)
    found: set[str] = set()
    for i, token in enumerate(code):
        if token.kind != "name" or token.text != top or (i and code[i - 1].text in ("module", ".")):
            continue
        for j in range(i + 1, len(code) - 1):
            if code[j].text == ";":
                break
            if code[j].text == "." and code[j + 1].kind in ("name", "escaped"):
                found.add(plain(code[j + 1]))
    return found


def _identifiers(header: str) -> set[str]:
    return {plain(t) for t in code_tokens(header) if t.kind in ("name", "escaped")}


def _rename(text: str, keep: set[str]) -> str:
    parts: list[str] = []
    skip_line, macro_name = False, False
    for token in tokens(text):
        parts.append(token.text)
        if token.kind == "space":
            skip_line = skip_line and "\n" not in token.text
        elif token.kind == "directive":
            skip_line = token.text in _WHOLE_LINE
            macro_name = token.text in ("`define", "`undef", "`ifdef", "`ifndef", "`elsif")
        elif token.kind == "name":
            if macro_name:
                macro_name = False
            elif not skip_line and token.text not in KEYWORDS | _BUILTIN and token.text not in keep:
                parts.append(_MARK)
    return "".join(parts)

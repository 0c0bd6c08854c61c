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

from itercli.verifiers.verilog_text import KEYWORDS, code_tokens, modules, plain, tokens

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
        names: Names that a candidate must not use.
        hardening: Which names are marked.
    """

    text: str
    root: str
    names: frozenset[str]
    hardening: Hardening

    def render(self) -> tuple[str, str, str]:
        """The bench under new names: (text, name of the root, the suffix)."""
        suffix = "$" + secrets.token_hex(8)
        root = self.root + suffix if self.hardening != "reference" else self.root
        return self.text.replace(_MARK, suffix), root, suffix


@functools.lru_cache(maxsize=4096)
def prepare(bench: str, header: str, top: str, reference: str, hardening: Hardening) -> Bench:
    """Prepare a bench for checks.

    Args:
        bench: Its text, the reference module included.
        header: Header of the asked-for module; gives the ports.
        top: Its name.
        reference: Name of the reference module.
        hardening: "renamed" (all names), "reference" (that module's only).
    """
    names = {m.name for m in modules(bench)} - {top}
    root = "tb" if "tb" in names or not names else sorted(names)[-1]
    if hardening == "reference":
        text = "".join(
            t.text + _MARK if t.kind == "name" and t.text == reference else t.text for t in tokens(bench)
        )
    else:
        text = _rename(bench, keep={top, *_identifiers(header)})
    return Bench(text, root, frozenset({*names, reference, root}), hardening)


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

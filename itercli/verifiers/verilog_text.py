"""Verilog as a stream of tokens: enough to rename, to refuse and to cut, no grammar.

Where tools differ about what is a comment or a string, this errs on the side of seeing
code: a comment ends at a carriage return too, a string does not go over a line's end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["space", "comment", "string", "escaped", "directive", "system", "number", "name", "other"]

_TOKEN = re.compile(
    r"""
    (?P<space>     \s+ )
  | (?P<comment>   //[^\r\n]* | /\*.*?\*/ )
  | (?P<string>    "(?:\\[^\r\n]|[^"\\\r\n])*" )
  | (?P<escaped>   \\\S+ )
  | (?P<directive> ` (?: [A-Za-z_][\w$]* | [`"] | \\`" )? )
  | (?P<system>    \$[\w$]* )
  | (?P<number>    (?:\d[\d_]*)? \s* '[sS]?[bBoOdDhH] \s* [\da-fA-FxXzZ?_]+ | '[01xXzZ](?![\w$]) | \d[\w.]* )
  | (?P<name>      [A-Za-z_][\w$]* )
  | (?P<other>     . )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)

# IEEE 1800-2017, annex B.
KEYWORDS = frozenset(
    """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic
    before begin bind bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle
    checker class clocking cmos config const constraint context continue cover covergroup coverpoint
    cross deassign default defparam design disable dist do edge else end endcase endchecker endclass
    endclocking endconfig endfunction endgenerate endgroup endinterface endmodule endpackage
    endprimitive endprogram endproperty endspecify endsequence endtable endtask enum event
    eventually expect export extends extern final first_match for force foreach forever fork
    forkjoin function generate genvar global highz0 highz1 if iff ifnone ignore_bins illegal_bins
    implements implies import incdir include initial inout input inside instance int integer
    interconnect interface intersect join join_any join_none large let liblist library local
    localparam logic longint macromodule matches medium modport module nand negedge nettype new
    nexttime nmos nor noshowcancelled not notif0 notif1 null or output package packed parameter pmos
    posedge primitive priority program property protected pull0 pull1 pulldown pullup
    pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence rcmos real realtime
    ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1 s_always
    s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled
    signed small soft solve specify specparam static string strong strong0 strong1 struct super
    supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout time
    timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union
    unique unique0 unsigned until until_with untyped use uwire var vectored virtual void wait
    wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor
    """.split()  # noqa: SIM905
)


class Token(NamedTuple):
    """A piece of the text; all tokens joined are the text again."""

    kind: Kind
    text: str
    start: int


def tokens(text: str) -> Iterator[Token]:
    """Split a text; nothing is dropped."""
    for match in _TOKEN.finditer(text):
        yield Token(match.lastgroup, match.group(), match.start())  # type: ignore[arg-type]


def code_tokens(text: str) -> list[Token]:
    """The tokens that mean something: no space, no comments."""
    return [t for t in tokens(text) if t.kind not in ("space", "comment")]


def plain(token: Token) -> str:
    """The identifier that a name or escaped name stands for, else the token's text."""
    return token.text[1:] if token.kind == "escaped" else token.text


class Module(NamedTuple):
    """A module's name and where it stands, from `module` to the end of `endmodule` and its label."""

    name: str
    start: int
    end: int


def modules(text: str) -> list[Module]:
    """The complete modules of a text, in order."""
    found, name, start = [], "", -1
    code = code_tokens(text)
    for i, token in enumerate(code):
        if token.kind != "name":
            continue
        if token.text in ("module", "macromodule") and start < 0:
            rest = [t for t in code[i + 1 : i + 3] if t.text not in ("automatic", "static")]
            name, start = (plain(rest[0]) if rest else ""), token.start
        elif token.text == "endmodule" and start >= 0:
            found.append(Module(name, start, label_end(code, i)))
            start = -1
    return found


def label_end(code: list[Token], at: int) -> int:
    """Offset after the `endmodule` at index `at` and its label (`endmodule : name`)."""
    end = code[at]
    if at + 2 < len(code) and code[at + 1].text == ":" and code[at + 2].kind in ("name", "escaped"):
        end = code[at + 2]
    return end.start + len(end.text)


def ports(header: str) -> dict[str, str]:
    """Direction of each port in a module header with directions in the port list (ANSI style).

    Ports that are arrays (a dimension after the name) are left out.
    """
    found: dict[str, str] = {}
    direction, depth, name = "", 0, ""
    code = code_tokens(header)
    opening = _port_list(code)
    for token in code[opening:] if opening is not None else ():
        text = token.text
        if depth == 1 and text in (",", ")"):
            if name and direction:
                found[name] = direction
            name = ""
        if text in ("(", "[", "{"):
            if depth == 1 and text == "[" and name:
                found.pop(name, None)
                name = direction = direction and ""
            depth += 1
        elif text in (")", "]", "}"):
            depth -= 1
            if depth == 0:
                break
        elif depth == 1 and text in ("input", "output", "inout"):
            direction = text
        elif depth == 1 and token.kind in ("name", "escaped") and text not in KEYWORDS:
            name = plain(token)
    return found


def _port_list(code: list[Token]) -> int | None:
    """Index of the parenthesis that opens a module's port list, after any parameters."""
    depth = 0
    for i, token in enumerate(code):
        if token.text == "(":
            if depth == 0 and code[i - 1].text != "#":
                return i
            depth += 1
        elif token.text == ")":
            depth -= 1
    return None

"""Verilog out of text that sets nothing apart; heuristics, for undelimited text only.

Kept are the design units (modules, packages ...), what may stand beside them at file level
and comments; sentences in between are dropped. Of several modules of the asked-for name
the first counts, as models that do not stop write it again and again, unless a sentence
announces a later one.
"""

from __future__ import annotations

import re
from itertools import pairwise

from itercli.verifiers.verilog_units import Declaration, declarations, instantiated, is_stub

_LATER = re.compile(
    r"\b(?:final(?:ly)?|correct(?:ed|ion)|fix(?:ed)?|revised|updated|improved|wait|oops|actually|mistake|wrong|"
    r"instead|(?:full|complete|whole) (?:module|code|version|design|answer))\b",
    re.IGNORECASE,
)
# What a model that does not stop writes before it answers the next task.
_NEXT_TASK = re.compile(
    r"^\W*(?:instruction|question|problem|exercise|task|prompt|user)s?\b|\bplease\b|\byou are\b|"
    r"\b(?:implement|write|design|create|build) (?:a|an|the)\b",
    re.IGNORECASE | re.MULTILINE,
)
_WORD = r"[A-Za-z_][\w$]*"
_BLOCKS = {
    kind: re.compile(rf"\bend{kind}\b(?:[ \t]*:[ \t]*{_WORD})?")
    for kind in ("package", "interface", "primitive", "function", "task", "class")
}
_BLOCK = re.compile(rf"^[ \t]*({'|'.join(_BLOCKS)})\b(?=[^\n]*[(;])", re.MULTILINE)
_DECLARED = re.compile(
    rf"""[ \t]*(?:
        typedef\s+(?:enum|struct|union|{_WORD})\b | (?:localparam|parameter)\b[^;\n]*= | import\s+{_WORD}::
      | (?:timeunit|timeprecision)\s+\d
    )""",
    re.VERBOSE,
)
_DIRECTIVE = re.compile(
    rf"""[ \t]*`(?:
        (?:define|undef|ifdef|ifndef|elsif|default_nettype|unconnected_drive)\s+{_WORD}
      | timescale\s+\d | include\s+["<] | (?:else|endif|resetall|celldefine|endcelldefine)\b
    )""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"[ \t]*(?://|\(\*.*\*\)[ \t]*$)")

# A line that can begin a module's body; sentences begin with such words too, so the shape counts.
_STATEMENT = re.compile(
    rf"""[ \t]*(?:
        assign\b.*= | assign\s*$ | always_(?:comb|ff|latch)\b
      | always(?:_comb|_ff|_latch)?\b\s*(?:@|begin\b|if\b|case|\#|$)
      | (?:wire|reg|logic|integer|int|genvar|real|tri|bit|byte|time|supply[01])\b\s*
        (?:signed\b|unsigned\b|\[|{_WORD}\s*(?:[;,=\[]|$))
      | (?:input|output|inout)\b\s*(?:wire\b|reg\b|logic\b|signed\b|\[|{_WORD}\s*[;,])
      | (?:localparam|parameter|defparam|specparam)\b.*=
      | (?:generate|initial|final)\b\s*(?:$|begin|if|for|{_WORD}\s*(?:<?=|\[))
      | (?:function|task)\b[^\n]*[;(] | typedef\b | import\s+{_WORD}::
      | (?:if|for|case[xz]?)\s*\( | begin\b\s*(?::|$)
      | (?:and|or|not|nand|nor|xor|xnor|buf)\s*(?:{_WORD}\s*)?\(
      | {_WORD}\s+(?:\#\s*\(.*|{_WORD}\s*(?:\[[^\]]*\]\s*)?)\([^;]*\)\s*;
      | {_WORD}\s+(?:\#\s*\(|{_WORD}\s*\()\s*$
      | (?://|/\*|\(\*) | `(?:define|ifdef|ifndef|timescale|default_nettype)\b | end(?:module)?\b
    )""",
    re.VERBOSE,
)


def from_prose(text: str, header: str, top: str) -> tuple[str, str]:
    """The code in undelimited text.

    Returns:
        What it is ("top", "stub", "body", "open", "other" or "text") and the code.
    """
    if not text.strip():
        return "text", ""
    found = declarations(text)
    whole = [d for d in found if d.end is not None]
    tops = [d for d in whole if d.name == top]
    if tops:
        chosen = _choose(text, tops)
        kind = "stub" if is_stub(text[chosen.start : chosen.end]) else "top"
        return kind, _around(text, whole, tops, chosen)
    body_end = re.search(r"\bendmodule\b(?:[ \t]*:[ \t]*" + _WORD + r")?", _without_comments(text))
    if body_end and (not found or body_end.start() < found[0].start):
        rest = text[body_end.end() :]
        others = [d for d in declarations(rest) if d.name != top or d.end is None]
        until = next((d.start for d in declarations(rest) if d.name == top), len(rest))
        helpers = _pieces(rest[:until], others)
        return "body", _joined(header, _statements(text[: body_end.end()])) + helpers
    open_top = next((d for d in reversed(found) if d.name == top), None)
    if open_top is not None:
        before = [d for d in whole if d.end is not None and d.end <= open_top.start]
        return "open", _pieces(text[: open_top.start], before) + "\n" + text[open_top.start :]
    if whole:
        return "other", _pieces(text, whole)
    cut = re.search(rf"^[ \t]*(?:macro)?module\s+\\?{re.escape(top)}\s*(?:#?\s*\(|;)", text, re.MULTILINE)
    if cut:  # cut off in its header
        return "open", text[cut.start() :]
    return "text", _joined(header, _statements(text))


def _choose(text: str, tops: list[Declaration]) -> Declaration:
    real = [d for d in tops if not is_stub(text[d.start : d.end])] or tops
    chosen = real[0]
    for before, d in pairwise(real):
        between = text[before.end : d.start]
        if _NEXT_TASK.search(between):
            break
        if _LATER.search(between):
            chosen = d
    return chosen


def _around(text: str, whole: list[Declaration], tops: list[Declaration], chosen: Declaration) -> str:
    """The chosen module with what stands beside it, up to the next module of its name."""
    start = max((d.end or 0 for d in tops if d.start < chosen.start), default=0)
    stop = min((d.start for d in tops if d.start > chosen.start), default=len(text))
    inside = [d for d in whole if start <= d.start < stop]
    code = _pieces(text[start:stop], [_moved(d, start) for d in inside])
    return supplied(code, [text[d.start : d.end] for d in whole if d not in inside and d.name != chosen.name])


def supplied(code: str, others: list[str]) -> str:
    """Code with the modules before it that it instantiates and that stand elsewhere in the answer."""
    units = {d.name: other for other in others for d in declarations(other) if d.end is not None}
    have = {d.name for d in declarations(code)}
    todo = instantiated(code, units.keys() - have)
    while todo:
        have |= todo
        new = "".join(f"{units[name]}\n" for name in sorted(todo))
        code, todo = new + code, instantiated(new, units.keys() - have)
    return code


def _moved(d: Declaration, by: int) -> Declaration:
    return Declaration(d.name, d.start - by, d.body - by, None if d.end is None else d.end - by)


def _pieces(text: str, modules: list[Declaration]) -> str:
    """Modules and what may stand at file level between them; sentences are left out."""
    parts, at, kept_to = [], 0, 0
    for d in modules:
        if d.end is None:
            continue
        gap = _file_level(text[at : d.start])
        parts.append(gap)
        parts.append(text[d.start : d.end])
        at = kept_to = d.end
    tail = _file_level(text[kept_to:])
    # After the last module only what must be there: an `endif, a package.
    keep = [line for line in tail.split("\n") if line.strip() and not _COMMENT.match(line)]
    if keep:
        parts.append(tail)
    return "".join(parts)


def _file_level(text: str) -> str:
    if not text.strip():
        return text
    kept: list[str] = []
    at = 0
    while at < len(text):
        stop = text.find("\n", at)
        stop = len(text) if stop < 0 else stop + 1
        line = text[at:stop]
        block = _BLOCK.match(text, at)
        if block and (ending := _BLOCKS[block.group(1)].search(text, block.end())):
            stop = ending.end()
        elif line.lstrip().startswith("/*") and (close := text.find("*/", at)) >= 0:
            stop = close + 2
        elif _DECLARED.match(line) and (semicolon := re.compile(r";(?![^{}]*\})").search(text, at)):
            newline = text.find("\n", semicolon.end())
            stop = len(text) if newline < 0 else newline + 1
        elif _DIRECTIVE.match(line):
            while text[at:stop].rstrip("\n").endswith("\\") and stop < len(text):
                following = text.find("\n", stop)
                stop = len(text) if following < 0 else following + 1
        elif line.strip() and not _COMMENT.match(line):
            at = stop
            continue
        kept.append(text[at:stop])
        at = stop
    return "".join(kept)


def _statements(text: str) -> str:
    """A body from its first line that looks like Verilog; all of it if none does."""
    at = 0
    for line in text.split("\n"):
        if _STATEMENT.match(line):
            return text[at:] if text[:at].strip() else text
        colon = re.match(r"[^;=(]*:[ \t]+", line)
        if colon and _STATEMENT.match(line[colon.end() :]):
            return text[at + colon.end() :]
        at += len(line) + 1
    return text


def _joined(header: str, body: str) -> str:
    return (header if not header or header.endswith("\n") else header + "\n") + body


def _without_comments(text: str) -> str:
    """The text with comments blanked out, every offset the same."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: " " * len(m.group()), text, flags=re.DOTALL)

"""From what a model wrote to the code that is judged.

Delimited code (a fence, [BEGIN]/[DONE]) is taken as it is; heuristics are for text that
sets nothing apart (`verilog_prose`). Of several delimited parts the last counts that
defines the asked-for module completely, so a skeleton or a draft before it does not; modules
that it needs and that stand in other parts are added. Benches that the model appended are
dropped. RTLCoder's and VerilogEval's own scripts take the first part and know fewer forms.
"""

from __future__ import annotations

import re

from itercli.verifiers.verilog_blocks import Block, fenced, marked, without_thoughts
from itercli.verifiers.verilog_prose import from_prose, supplied
from itercli.verifiers.verilog_text import code_tokens
from itercli.verifiers.verilog_units import declarations, drop_benches, is_stub, is_testbench

__all__ = ["extract", "is_testbench"]

# A backtick right before `module` is Markdown's, never Verilog's.
_INLINE_FENCE = re.compile(r"(?<=[^\s`])[ \t]*(`{3,})[ \t]*(?=(?:macro)?module\b)")
_INLINE = re.compile(r"(?<!`)`(?=(?:macro)?module\b)")
_GLUED = re.compile(r"\bendmodule(?=(?:macro)?module\b)")  # models that do not stop write it
# Best first; of equals the last.
_ORDER = (
    ("top", True), ("body", True), ("top", False), ("body", False), ("stub", True), ("stub", False),
    ("open", True), ("open", False), ("statements", True), ("other", True), ("other", False), ("text", False),
)  # fmt: skip
_STATEMENT = re.compile(r"\b(?:assign|always\w*)\b|<=|=[^=]")


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
    text = completion.removeprefix("\ufeff").replace("\r\n", "\n")
    text = _GLUED.sub("endmodule\n", without_thoughts(text))
    text = _INLINE.sub(" ", _INLINE_FENCE.sub(r"\n\1\n", text))
    regions, rest = marked(text)
    kind, code = "", ""
    for blocks in (_of_regions(regions), fenced(rest)):
        kind, code = _best(blocks, header, top) or (kind, code)
        if kind in ("top", "body", "stub", "open"):
            break
    code = drop_benches(code, top)
    return code.strip("\n") + "\n" if code.strip() else ""


def _of_regions(regions: list[str]) -> list[Block]:
    """Parts of marked regions: their fences, or all of a region that has none."""
    found = []
    for region in regions:
        fences = [b for b in fenced(region) if b.delimited and b.text.strip()]
        found += fences or [Block(region, True, True)]
    return found


def _best(blocks: list[Block], header: str, top: str) -> tuple[str, str] | None:
    """Kind and code of the block that counts, with what it needs of the others."""
    best, chosen = None, None
    blocks = [inner for block in blocks for inner in _opened(block)]
    for block in blocks:
        kind, code = (_delimited if block.delimited else from_prose)(block.text, header, top)
        if not block.closed and block.delimited:
            code = _trimmed(code)
        rank = _ORDER.index((kind, block.delimited)) if code.strip() else len(_ORDER)
        if best is None or rank <= best[0]:
            best, chosen = (rank, kind, code), block
    if best is None or best[0] == len(_ORDER):
        return None
    others = [b.text[d.start : d.end] for b in blocks if b is not chosen for d in declarations(b.text)
              if d.end is not None and d.name != top]  # fmt: skip
    return best[1], supplied(best[2], others)


def _opened(block: Block) -> list[Block]:
    """A block, or the fences in it (a fence of Markdown)."""
    inner = [b for b in fenced(block.text) if b.delimited] if block.delimited else []
    return inner or [block]


def _delimited(text: str, header: str, top: str) -> tuple[str, str]:
    """Kind and code of a block that was set apart: the text itself, under the header if it is a body."""
    found = declarations(text)
    tops = [d for d in found if d.name == top and d.end is not None]
    if tops:
        real = [d for d in tops if not is_stub(text[d.start : d.end])] or tops
        for d in reversed(tops):
            if d is not real[-1]:  # a draft of the same name cannot stand beside it
                text = text[: d.start] + text[d.end :]
        return ("stub" if is_stub(_of(text, top)) else "top"), text
    words = [t.text for t in code_tokens(text) if t.kind == "name"]
    first = next((w for w in words if w in ("module", "macromodule", "endmodule")), None)
    if first == "endmodule" or (first is None and words):
        whole = (header if not header or header.endswith("\n") else header + "\n") + text
        if first is None and not _STATEMENT.search(text):
            return "text", ""
        return ("body" if first else "statements"), whole
    if any(d.name == top for d in found) or (first and not found):
        return "open", text
    return ("other", text) if found else ("text", "")


def _of(text: str, top: str) -> str:
    return next(text[d.start : d.end] for d in declarations(text) if d.name == top and d.end is not None)


def _trimmed(code: str) -> str:
    """Code whose end is not marked, without the sentences after its last module."""
    whole = [d for d in declarations(code) if d.end is not None]
    if not whole:
        return code
    end = whole[-1].end or 0
    tail = [line for line in code[end:].split("\n") if line.lstrip().startswith("`")]
    rest = declarations(code[end:])
    return code if rest else "\n".join([code[:end], *tail])

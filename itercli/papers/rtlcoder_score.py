"""RTLCoder's quality score of a candidate, as far as it can be inferred.

The scoring script was never published. In the released sample file, candidates that parse
have score 1, those that don't have some similarity to the reference below 1, and near-empty
ones about 0.01. The rule here is the one closest to that: 1 if it parses and does something,
`stub_score` if it parses and does nothing, else ROUGE-L F1 against the reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from itercli.verifiers.slang import view
from itercli.verifiers.verilog_text import code_tokens

# An answer this long is not a small module; parsing time would be its only effect.
MAX_CHARS = 100_000
_DEFINE = re.compile(r"`define\b(?:[ \t]+(\w+)(\()?((?:[^\n\\]|\\.|\\\n)*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Quality:
    """What the score was made from.

    Attributes:
        kind: "good" parses and does something, "stub" parses and does nothing, "bad" does not parse.
        value: The score.
        message: First complaint of the parser.
    """

    kind: Literal["good", "stub", "bad"]
    value: float
    message: str = ""


def quality(
    code: str, reference: str | None, *, stub_score: float = 0.01, no_reference_score: float = 0.0
) -> Quality:
    """Score one candidate; see the module's docstring."""
    kind, message = parse(code)
    if kind == "good":
        return Quality(kind, 1.0)
    if kind == "stub":
        return Quality(kind, stub_score, message)
    if reference is None:
        return Quality(kind, no_reference_score, message)
    # Below 1 even for the text of a reference that does not parse itself.
    return Quality(kind, min(rouge_l(code, reference), 0.99), message)


def parse(code: str) -> tuple[Literal["good", "stub", "bad"], str]:
    """Parse with pyslang (SystemVerilog 2017, no elaboration).

    Returns:
        The kind and, unless it is good, why.
    """
    refused = _unsafe(code)
    if refused:
        return "bad", refused
    found = view(code)
    if found.refused or found.first:
        return "bad", found.refused or found.first
    return ("good", "") if found.does else ("stub", "no statement, assignment or instance")


def _unsafe(code: str) -> str | None:
    """Why a text is not given to the parser at all.

    Includes read any file, and macros inside macros grow exponentially. Plain constants
    stay.
    """
    if len(code) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    if "`include" in code:
        return "`include"
    bodies = []
    for match in _DEFINE.finditer(code):
        name, arguments, body = match.groups()
        if name is None or arguments or "`" in body:
            return "a macro with arguments or other macros in it"
        bodies.append(len(body))
    if bodies and max(bodies) * code.count("`") > MAX_CHARS:
        return "macros that grow too large"
    return None


def rouge_l(candidate: str, reference: str) -> float:
    """ROUGE-L F1 over Verilog tokens, comments left out.

    Tokens of the language rather than ROUGE's words, which drop every operator. Longest
    common subsequence bit by bit (Hyyrö 2004).

    Source: Lin, ROUGE (2004), section 3, with beta = 1.
    """
    a, b = ([t.text for t in code_tokens(text)] for text in (candidate, reference))
    if not a or not b:
        return 0.0
    positions: dict[str, int] = {}
    for i, token in enumerate(a):
        positions[token] = positions.get(token, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for token in b:
        matched = row & positions.get(token, 0)
        row = ((row + matched) | (row - matched)) & full
    common = len(a) - row.bit_count()
    return 2 * common / (len(a) + len(b))

"""Where a completion sets code apart: thoughts, [BEGIN]/[DONE], code fences.

Fences follow CommonMark (backticks or tildes, three or more, closed by at least as many),
with what models make of it: indented or quoted, opened in the prompt, opened or closed on
the line of the code, never closed, opened anew without closing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_THOUGHT = re.compile(
    r"(?P<start>^[ \t]*[<\[]TAG[>\]])|[<\[]/TAG[>\]]".replace(
        "TAG", "(?:think|thinking|thoughts?|reasoning|scratchpad|reflection)"
    ),
    re.IGNORECASE | re.MULTILINE,
)
_CHANNEL = "<|channel|>final<|message|>"

# A marker stands at the start of its line or right before code; in a sentence it is none.
_BEGIN = re.compile(
    r"^[ \t>*_`]*\[BEGIN\][*_`]*|\[BEGIN\](?=[ \t]*(?:$|module\b|macromodule\b|`|//|/\*))", re.MULTILINE
)
_DONE = re.compile(
    r"(?<![*_`])[*_`]*\[DONE\][*_`]*[ \t]*$|^[ \t>*_`]*\[(?:DONE|/?END|/BEGIN)\]", re.MULTILINE
)
_TAGS = re.compile(r"<(answer|code|verilog)>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)

_FENCE = re.compile(r"^(?P<lead>[ \t]*(?:(?:>|[-*+]|\d+[.)])[ \t]+|>)*)(?P<run>`{3,}|~{3,})(?P<info>.*)$")
_LATE_OPEN = re.compile(r"^.*\S[ \t]*(?P<run>`{3,})[ \t]*[A-Za-z]*[ \t]*$")
_LATE_CLOSE = re.compile(r"^(?P<code>.*\S)[ \t]*(?P<run>`{3,}|~{3,})(?P<rest>[^`~]*)$")
_LANGUAGE = re.compile(r"[\w+#.-]+(?:[ \t:]*[{\"\w].*)?")
_CODE_WORD = re.compile(r"\b(?:module|macromodule|endmodule|assign|always\w*)\b|;")


class Block(NamedTuple):
    """A part of a completion.

    Attributes:
        delimited: Set apart by fences or markers; else all that stands outside of those.
        closed: Its end is marked, too.
    """

    text: str
    delimited: bool
    closed: bool


def without_thoughts(text: str) -> str:
    """A completion without what a reasoning model thinks before its answer.

    A thought that is never closed goes to the end: there is no answer after it.
    """
    text = text.rsplit(_CHANNEL, 1)[-1]
    kept: list[str] = []
    at, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        if tag["start"] is not None:
            if not thinking:
                kept.append(text[at : tag.start()])
            thinking = True
            continue
        if not thinking:  # opened in the prompt, or in the middle of a line
            kept.clear()
        at, thinking = tag.end(), False
    return "\n".join(kept if thinking else [*kept, text[at:]])


def marked(text: str) -> tuple[list[str], str]:
    """What stands between [BEGIN] and [DONE] or in <answer> or <code>, in order, and the rest."""
    found: list[str] = []
    rest: list[str] = []
    at = 0
    while begin := _BEGIN.search(text, at):
        rest.append(text[at : begin.start()])
        done = _DONE.search(text, begin.end())
        stop = done.start() if done else len(text)
        # Begun anew: what came before was a mention or a draft.
        while again := _BEGIN.search(text, begin.end(), stop):
            begin = again
        found.append(text[begin.end() : stop])
        at = done.end() if done else len(text)
    rest.append(text[at:])
    outside = "\n".join(rest)
    if not found:
        done = next((d for d in _DONE.finditer(text) if "endmodule" in text[: d.start()]), None)
        outside = text[: done.start()] if done else text
    found += [m.group(2) for m in _TAGS.finditer(outside)]
    return found, _TAGS.sub("\n", outside)


def fenced(text: str) -> list[Block]:
    """The fences of a text in order; last, what stands outside of them."""
    found: list[Block] = []
    outside: list[str] = []
    inside: list[str] | None = None
    run = ""

    def close(closed: bool) -> None:
        nonlocal inside
        found.append(Block(_unquoted(inside or []), True, closed))
        inside = None

    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if inside is None:
            if fence is None and (late := _LATE_OPEN.match(line)) and "endmodule" not in line:
                outside.append(line[: late.start("run")])
                inside, run = [], late["run"]
            elif fence is None and (late := _LATE_CLOSE.match(line)) and "endmodule" in late["code"]:
                found.append(Block("\n".join([*outside, late["code"]]), True, True))  # opened in the prompt
                outside = [late["rest"]]
            elif fence is None:
                outside.append(line)
            elif not found and not fence["info"].strip() and "endmodule" in "\n".join(outside):
                found.append(Block("\n".join(outside), True, True))  # opened in the prompt
                outside = []
            else:
                run = fence["run"]
                inside = _opening(fence["info"])
                if inside and inside[0].rstrip().endswith(run):
                    inside[0] = inside[0].rstrip().removesuffix(run)
                    close(True)
            continue
        same = fence is not None and fence["run"][0] == run[0] and len(fence["run"]) >= len(run)
        late = _LATE_CLOSE.match(line)
        if same and fence is not None:
            info = fence["info"].strip()
            close(True)
            if info and _LANGUAGE.fullmatch(info):
                inside, run = _opening(fence["info"]), fence["run"]  # the one before was left open
            else:
                outside.append(info)
        elif fence is None and late and late["run"].startswith(run) and _CODE_WORD.search(late["code"]):
            inside.append(late["code"])
            close(True)
            outside.append(late["rest"])
        else:
            inside.append(line)
    if inside is not None:
        close(False)
    return [*found, Block("\n".join(outside), False, False)]


def _opening(info: str) -> list[str]:
    """The first line of code where it follows the fence: "```verilog module m;"."""
    if not _CODE_WORD.search(info):
        return []
    words = info.lstrip().split(None, 1)
    language = len(words) > 1 and not _CODE_WORD.search(words[0]) and words[0].isalnum()
    return [words[1] if language else info]


def _unquoted(lines: list[str]) -> str:
    """Lines without the quote marks that all of them have."""
    full = [line for line in lines if line.strip()]
    if full and all(line.lstrip().startswith(">") for line in full):
        lines = [re.sub(r"^[ \t]*>[ \t]?", "", line) for line in lines]
    return "\n".join(lines)

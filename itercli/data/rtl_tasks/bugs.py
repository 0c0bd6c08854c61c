"""Injected bugs: the mistakes a weak RTL writer makes, as edits of a correct answer.

The shipped tiny model is pre-trained on partly broken answers so that there is something
to improve; tests use the same edits to see that benches catch mistakes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from itercli.data.rtl_tasks.task import Task

Edit = Callable[[str, random.Random], str]

_SWAPS = {
    "&": "|",
    "|": "&",
    "^": "&",
    "+": "-",
    "-": "+",
    "<": ">",
    ">": "<",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "<<": ">>",
    ">>": "<<",
}
_OPERATOR = re.compile(r"(?<= )(<<|>>|>=|==|!=|[&|^+\-<>])(?= )")
_NUMBER = re.compile(r"(?<![\w'])\d+(?![\w'])|(?<='d)\d+")


def _one(pattern: re.Pattern[str], text: str, rng: random.Random, new: Callable[[re.Match[str]], str]) -> str:
    hits = list(pattern.finditer(text))
    if not hits:
        return text
    hit = rng.choice(hits)
    return text[: hit.start()] + new(hit) + text[hit.end() :]


def _operator(body: str, rng: random.Random) -> str:
    return _one(_OPERATOR, body, rng, lambda m: _SWAPS[m[1]])


def _off_by_one(body: str, rng: random.Random) -> str:
    return _one(_NUMBER, body, rng, lambda m: str(max(0, int(m[0]) + rng.choice((-1, 1)))))


def _inversion(body: str, rng: random.Random) -> str:
    if "~" in body:
        return _one(re.compile("~"), body, rng, lambda m: "")
    return _one(re.compile(r"(?<=assign )(\w+ = )(?!~)|(?<=<= )(?=[a-z])"), body, rng, lambda m: m[0] + "~")


def _edge(body: str, rng: random.Random) -> str:
    return _one(
        re.compile("posedge|negedge"), body, rng, lambda m: "negedge" if m[0] == "posedge" else "posedge"
    )


def _reset(body: str, rng: random.Random) -> str:
    """Wrong polarity, or synchronous and asynchronous confused."""
    if " or " in body and rng.random() < 0.5:
        return re.sub(r" or \w+ rst(_n)?", "", body)
    if "(rst)" in body and rng.random() < 0.4:
        return body.replace("(posedge clk)", "(posedge clk or posedge rst)")
    return _one(
        re.compile(r"\(!?rst(_n)?\)"),
        body,
        rng,
        lambda m: m[0].replace("!", "") if "!" in m[0] else m[0].replace("(", "(!"),
    )


def _ternary(body: str, rng: random.Random) -> str:
    return _one(
        re.compile(r"\? ([~\w' +\-&|^]+) : ([~\w' +\-&|^]+)"), body, rng, lambda m: f"? {m[2]} : {m[1]}"
    )


def _names(task: Task) -> Edit:
    """Confuse two inputs, or the order of two parts."""
    names = [n for n, _ in task.inputs]

    def edit(body: str, rng: random.Random) -> str:
        if len(names) < 2:
            return body
        old, new = rng.sample(names, 2)
        return _one(re.compile(rf"\b{old}\b"), body, rng, lambda m: new)

    return edit


def _syntax(body: str, rng: random.Random) -> str:
    slips = (
        lambda t: _one(re.compile(";"), t, rng, lambda m: ""),
        lambda t: _one(re.compile(r"\)"), t, rng, lambda m: ""),
        lambda t: _one(re.compile("assign "), t, rng, lambda m: ""),
        lambda t: _one(re.compile(r"\bend\b|endcase"), t, rng, lambda m: ""),
        lambda t: _one(re.compile(r"\belse\b"), t, rng, lambda m: "else if"),
    )
    return rng.choice(slips)(body)


def inject_bug(task: Task, rng: random.Random) -> str:
    """A broken answer to `task`: its reference with one edit in the body.

    A few edits happen to keep the behaviour (swapping equal operands); that is left as it is.

    Returns:
        The full answer text; it always differs from the reference.
    """
    edits: list[Edit] = [
        _operator,
        _operator,
        _off_by_one,
        _inversion,
        _edge,
        _reset,
        _ternary,
        _names(task),
        _syntax,
    ]
    rng.shuffle(edits)
    for edit in edits:
        body = edit(task.body, rng)
        if body != task.body:
            return f"{task.header}\n{body}\nendmodule\n"
    return f"{task.header}\n{task.body.replace(';', '', 1)}\nendmodule\n"

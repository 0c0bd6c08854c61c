"""What a task is, and the small language in which the templates are written.

A template is a generator of `Task` objects, one per choice of parameters. It registers with
`@template(name, family)`; `all_tasks` collects, caps and de-duplicates them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

TOP = "top_module"


def stable_hash(*parts: object) -> int:
    """A hash that is the same in every process and on every machine (Python's own is salted)."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Reset:
    """How a flip-flop is reset: its port, what the always block waits for, and its wording."""

    kind: str
    port: str
    edge: str
    test: str
    phrase: str

    @property
    def level(self) -> int:
        """Port value that resets."""
        return 0 if self.test.startswith("!") else 1


NO_RESET = Reset("none", "", "posedge clk", "", "")
RESETS = (
    Reset("sync", "rst", "posedge clk", "rst", "synchronous active-high reset rst"),
    Reset("async", "rst", "posedge clk or posedge rst", "rst", "asynchronous active-high reset rst"),
    Reset("syncn", "rst_n", "posedge clk", "!rst_n", "synchronous active-low reset rst_n"),
    Reset("asyncn", "rst_n", "posedge clk or negedge rst_n", "!rst_n", "asynchronous active-low reset rst_n"),
)


@dataclass(frozen=True)
class Task:
    """One (template, parameters) pair, everything needed to ask it and to check answers.

    Attributes:
        inputs: (name, width) of the data inputs; clock and reset are not among them.
        outputs: (name, width, is_reg).
        body: Reference body, without the header and without `endmodule`.
        wordings: Several ways to say the same instruction.
        reset: None for combinational tasks.
        corners: Values that a bench must try on every input (bounds of comparisons).
    """

    template: str
    family: str
    slug: str
    params: dict[str, Any]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int, bool], ...]
    body: str
    wordings: tuple[str, ...]
    reset: Reset | None = None
    corners: tuple[int, ...] = field(default=())

    @property
    def id(self) -> str:
        """Identity of the (template, parameters) pair; splits are drawn over it."""
        return f"{self.template}/{self.slug}"

    @property
    def header(self) -> str:
        """Module header up to and including `);`."""
        ports = []
        if self.reset is not None:
            ports.append("input clk")
            if self.reset.port:
                ports.append(f"input {self.reset.port}")
        ports += [f"input {bits(w)}{n}" for n, w in self.inputs]
        ports += [f"output {'reg ' if reg else ''}{bits(w)}{n}" for n, w, reg in self.outputs]
        return f"module {TOP}(\n    " + ",\n    ".join(ports) + "\n);"

    @property
    def code(self) -> str:
        """The reference answer: header, body, `endmodule`."""
        return f"{self.header}\n{self.body}\nendmodule\n"

    @property
    def normal_code(self) -> str:
        """The reference with all white space collapsed: equal texts are the same answer."""
        return " ".join(self.code.split())


def bits(width: int) -> str:
    """Packed range with a trailing space, or nothing for one bit."""
    return f"[{width - 1}:0] " if width > 1 else ""


def plural(n: int, noun: str = "bit") -> str:
    """`1 bit`, `4 bits`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


TemplateFn = Callable[[], Iterator[dict[str, Any]]]
TEMPLATES: dict[str, tuple[str, TemplateFn]] = {}


def template(name: str, family: str) -> Callable[[TemplateFn], TemplateFn]:
    """Decorator: registers a generator of `case(...)` dictionaries as a template."""

    def decorate(fn: TemplateFn) -> TemplateFn:
        if name in TEMPLATES:
            raise ValueError(f"template {name!r} is defined twice")
        TEMPLATES[name] = (family, fn)
        return fn

    return decorate


def case(
    params: dict[str, Any],
    ins: list[tuple[str, int]],
    outs: list[tuple[str, int]],
    lines: list[str] | str,
    say: list[str],
    *,
    reset: Reset | None = None,
    reg: bool = False,
    corners: tuple[int, ...] = (),
) -> dict[str, Any]:
    """The fields of a task; `lines` are indented here, `say` holds its wordings."""
    text = [lines] if isinstance(lines, str) else lines
    return {
        "slug": "-".join(f"{k}{v}" for k, v in params.items()),
        "params": {**params, **({"reset": reset.kind} if reset else {})},
        "inputs": tuple(ins),
        "outputs": tuple((n, w, reg) for n, w in outs),
        "body": "\n".join("    " + line for line in text),
        "wordings": tuple(say),
        "reset": reset,
        "corners": corners,
    }


def flop(reset: Reset, init: list[str], step: list[str]) -> list[str]:
    """An always block: `init` under reset, `step` else (each one or two simple statements)."""
    head = f"always @({reset.edge})"
    if not reset.test:
        return (
            [head, *("    " + s for s in step)]
            if len(step) == 1
            else [head + " begin", *("    " + s for s in step), "end"]
        )
    if len(init) == 1 and len(step) == 1:
        return [head, f"    if ({reset.test}) {init[0]}", f"    else {step[0]}"]
    return [
        head,
        f"    if ({reset.test}) begin",
        *("        " + s for s in init),
        "    end else begin",
        *("        " + s for s in step),
        "    end",
    ]


def by_reset(reset: Reset) -> str:
    """`, with a synchronous active-high reset rst`, or nothing."""
    article = "an" if reset.phrase.startswith("a") else "a"
    return f", with {article} {reset.phrase}" if reset.phrase else ""

"""Templates of registers: flip-flops, registered operations, accumulators, flags."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from itercli.data.rtl_tasks.task import NO_RESET, RESETS, by_reset, case, flop, plural, template
from itercli.data.rtl_tasks.templates_arith import COMPARE, OPS

Cases = Iterator[dict[str, Any]]
WIDTHS = (2, 3, 4, 5, 6, 7, 8, 12, 16)
DATA = (("d", "q"), ("in", "out"))


def _dff(en: bool) -> Cases:
    for w, r, (d, q) in product((1, *WIDTHS), (NO_RESET, *RESETS), DATA):
        load = f"if (en) {q} <= {d};" if en else f"{q} <= {d};"
        when = " when en is 1" if en else ""
        yield case(
            {"w": w, "r": r.kind, "n": q},
            [*([("en", 1)] if en else []), (d, w)],
            [(q, w)],
            flop(r, [f"{q} <= 0;"], [load]),
            [
                f"A {w}-bit register {q} that loads {d} at the rising clock edge{when}{by_reset(r)}.",
                f"At each rising edge of clk store {d} in {q}{when} ({plural(w)}){by_reset(r)}.",
                f"{plural(w).capitalize()} of D flip-flop from {d} to {q}{when}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("dff", "register")
def dff() -> Cases:
    yield from _dff(False)


@template("dff_enable", "register")
def dff_enable() -> Cases:
    yield from _dff(True)


@template("dff_value", "register")
def dff_value() -> Cases:
    for w, v, r in product((4, 6, 8), (1, 2, 3, 5, 6, 7, 9, 10, 12, 15), RESETS):
        yield case(
            {"w": w, "v": v, "r": r.kind},
            [("d", w)],
            [("q", w)],
            flop(r, [f"q <= {w}'d{v};"], ["q <= d;"]),
            [
                f"A {w}-bit register q that loads d at the rising clock edge{by_reset(r)} to the value {v}.",
                f"At each rising edge of clk store d in q ({plural(w)}){by_reset(r)} that sets q to {v}.",
                f"D flip-flops from d to q{by_reset(r)}; reset value {v}.",
            ],
            reset=r,
            reg=True,
        )


@template("dff_falling", "register")
def dff_falling() -> Cases:
    for w, en, (d, q) in product((1, *WIDTHS), (0, 1), DATA):
        when = " when en is 1" if en else ""
        load = f"    if (en) {q} <= {d};" if en else f"    {q} <= {d};"
        yield case(
            {"w": w, "en": en, "n": q},
            [*([("en", 1)] if en else []), (d, w)],
            [(q, w)],
            ["always @(negedge clk)", load],
            [
                f"A {w}-bit register {q} that loads {d} at the falling clock edge{when}.",
                f"At each falling edge of clk store {d} in {q}{when} ({plural(w)}).",
                f"{plural(w).capitalize()} of D flip-flop triggered by the falling edge, from {d} to "
                f"{q}{when}.",
            ],
            reset=NO_RESET,
            reg=True,
        )


@template("reg_op", "register")
def reg_op() -> Cases:
    for op, w, r in product(OPS, (2, 4, 8, 16), (NO_RESET, *RESETS)):
        yield case(
            {"op": op, "w": w, "r": r.kind},
            [("a", w), ("b", w)],
            [("q", w)],
            flop(r, ["q <= 0;"], [f"q <= a {OPS[op]} b;"]),
            [
                f"At each rising edge of clk store a {op.upper()} b in q ({plural(w)}){by_reset(r)}.",
                f"A {w}-bit register q that loads a {op.upper()} b at the rising clock edge{by_reset(r)}.",
                f"Register the result a {op.upper()} b in q{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("reg_compare", "register")
def reg_compare() -> Cases:
    for (op, words), w, r in product(COMPARE.items(), (2, 4, 8), RESETS[:2]):
        yield case(
            {"op": words.replace(" ", "_"), "w": w, "r": r.kind},
            [("a", w), ("b", w)],
            [("q", 1)],
            flop(r, ["q <= 0;"], [f"q <= a {op} b;"]),
            [
                f"At each rising edge of clk store in q if a is {words} b ({plural(w)}){by_reset(r)}.",
                f"A register q that is 1 after the rising clock edge when a is {words} b{by_reset(r)}.",
                f"Compare a and b and register the result a {op} b in q{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("reg_mux", "register")
def reg_mux() -> Cases:
    for w, one, r in product(WIDTHS, ("a", "b"), (NO_RESET, *RESETS[:2])):
        zero = "b" if one == "a" else "a"
        yield case(
            {"w": w, "one": one, "r": r.kind},
            [("sel", 1), ("a", w), ("b", w)],
            [("q", w)],
            flop(r, ["q <= 0;"], [f"q <= sel ? {one} : {zero};"]),
            [
                f"At each rising edge of clk store {one} in q if sel is 1, else {zero} "
                f"({plural(w)}){by_reset(r)}.",
                f"A {w}-bit register q that loads {zero} when sel is 0 and {one} when sel is 1{by_reset(r)}.",
                f"Register the selected input in q: {one} for sel 1, {zero} for sel 0{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("toggle", "register")
def toggle() -> Cases:
    for w, t, r, q in product((1, 2, 3, 4, 8, 16), (0, 1), RESETS, ("q", "out")):
        yield case(
            {"w": w, "t": t, "r": r.kind, "n": q},
            [("t", w)] if t else [],
            [(q, w)],
            flop(r, [f"{q} <= 0;"], [f"{q} <= {q} ^ t;" if t else f"{q} <= ~{q};"]),
            [
                f"A {w}-bit toggle flip-flop {q}{' that toggles where t is 1' if t else ''}{by_reset(r)}.",
                f"At each rising edge of clk invert {q}{' where t is 1' if t else ''} "
                f"({plural(w)}){by_reset(r)}.",
                f"{q} toggles at every clock{' in the bits where t is 1' if t else ''}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("accumulate", "register")
def accumulate() -> Cases:
    for w, en, r in product(WIDTHS, (0, 1), RESETS):
        when = " when en is 1" if en else ""
        yield case(
            {"w": w, "en": en, "r": r.kind},
            [*([("en", 1)] if en else []), ("d", w)],
            [("q", w)],
            flop(r, ["q <= 0;"], ["if (en) q <= q + d;" if en else "q <= q + d;"]),
            [
                f"A {w}-bit accumulator: q adds d at each rising clock edge{when}{by_reset(r)}.",
                f"Add d to q at each rising edge of clk{when} ({plural(w)}){by_reset(r)}.",
                f"Accumulate d in q{when}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("track", "register")
def track() -> Cases:
    for w, (kind, op), r in product(WIDTHS, (("largest", ">"), ("smallest", "<")), RESETS):
        init = "q <= 0;" if op == ">" else "q <= -1;"
        yield case(
            {"w": w, "kind": kind, "r": r.kind},
            [("d", w)],
            [("q", w)],
            flop(r, [init], [f"if (d {op} q) q <= d;"]),
            [
                f"q holds the {kind} value of d seen since reset ({plural(w)}, unsigned){by_reset(r)}.",
                f"Keep the {kind} {w}-bit d in q{by_reset(r)} to {'0' if op == '>' else 'all ones'}.",
                f"Track the {kind} d: if d is {COMPARE[op]} q then store d in q{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("latch_flag", "register")
def latch_flag() -> Cases:
    for first, r, q, (s, c) in product(
        ("set", "clear"), RESETS, ("q", "flag"), (("set", "clr"), ("start", "stop"))
    ):
        step = [f"{q} <= ({q} | {s}) & ~{c};" if first == "clear" else f"{q} <= ({q} & ~{c}) | {s};"]
        win = c if first == "clear" else s
        yield case(
            {"first": first, "r": r.kind, "n": f"{q}{s}"},
            [(s, 1), (c, 1)],
            [(q, 1)],
            flop(r, [f"{q} <= 0;"], step),
            [
                f"A flag {q} that {s} sets and {c} clears; {win} wins if both are 1{by_reset(r)}.",
                f"{q} goes to 1 when {s} is 1 and to 0 when {c} is 1, {win} first{by_reset(r)}.",
                f"Flip-flop {q} with inputs {s} (to 1) and {c} (to 0); {win} has priority{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )

"""Templates of counters, shift registers, edge and sequence detectors, small state machines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from itercli.data.rtl_tasks.task import NO_RESET, RESETS, Reset, by_reset, case, flop, plural, template
from itercli.data.rtl_tasks.templates_reg import DATA, WIDTHS

Cases = Iterator[dict[str, Any]]


def _counter(up: bool, en: bool) -> Cases:
    side, op = ("up", "+") if up else ("down", "-")
    for w, r, q in product(WIDTHS, RESETS, ("q", "count")):
        step = f"{q} <= {q} {op} 1;"
        when = " when en is 1" if en else ""
        yield case(
            {"w": w, "r": r.kind, "n": q},
            [("en", 1)] if en else [],
            [(q, w)],
            flop(r, [f"{q} <= 0;"], [f"if (en) {step}" if en else step]),
            [
                f"A {w}-bit counter {q} that counts {side} by 1{when}{by_reset(r)} to 0.",
                f"{q} counts {side} at each rising clock edge{when} ({plural(w)}){by_reset(r)}.",
                f"Make a {w}-bit {side} counter {q}{when}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("count_up", "counter")
def count_up() -> Cases:
    yield from _counter(True, False)


@template("count_down", "counter")
def count_down() -> Cases:
    yield from _counter(False, False)


@template("count_up_enable", "counter")
def count_up_enable() -> Cases:
    yield from _counter(True, True)


@template("count_down_enable", "counter")
def count_down_enable() -> Cases:
    yield from _counter(False, True)


@template("count_step", "counter")
def count_step() -> Cases:
    for w, k, up, r in product((4, 6, 8), (2, 3, 4, 5, 6, 7), (1, 0), RESETS):
        side = "up" if up else "down"
        yield case(
            {"w": w, "k": k, "dir": side, "r": r.kind},
            [],
            [("q", w)],
            flop(r, ["q <= 0;"], [f"q <= q {'+' if up else '-'} {k};"]),
            [
                f"A {w}-bit counter q that counts {side} by {k}{by_reset(r)} to 0.",
                f"q counts {side} in steps of {k} at each rising clock edge ({plural(w)}){by_reset(r)}.",
                f"Make a {w}-bit {side} counter q with step {k}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("count_mod", "counter")
def count_mod() -> Cases:
    for n, r, q in product((3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 20, 24), RESETS, ("q", "count")):
        w = (n - 1).bit_length()
        yield case(
            {"mod": n, "r": r.kind, "n": q},
            [],
            [(q, w)],
            flop(r, [f"{q} <= 0;"], [f"{q} <= ({q} == {n - 1}) ? 0 : {q} + 1;"]),
            [
                f"A counter {q} that counts from 0 to {n - 1} and starts again{by_reset(r)}.",
                f"A modulo {n} counter {q} ({plural(w)}){by_reset(r)}.",
                f"{q} counts up at each rising clock edge and goes from {n - 1} to 0{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("count_updown", "counter")
def count_updown() -> Cases:
    for w, one, r in product(WIDTHS, ("up", "down"), RESETS):
        a, b = ("+", "-") if one == "up" else ("-", "+")
        other = "down" if one == "up" else "up"
        yield case(
            {"w": w, "one": one, "r": r.kind},
            [("dir", 1)],
            [("q", w)],
            flop(r, ["q <= 0;"], [f"q <= dir ? q {a} 1 : q {b} 1;"]),
            [
                f"A {w}-bit counter q that counts {one} when dir is 1, else {other}{by_reset(r)} to 0.",
                f"q counts {other} if dir is 0 and {one} if dir is 1 ({plural(w)}){by_reset(r)}.",
                f"Make a {w}-bit up and down counter q; dir 1 means {one}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("count_load", "counter")
def count_load() -> Cases:
    for w, up, r in product(WIDTHS, (1, 0), RESETS):
        side = "up" if up else "down"
        yield case(
            {"w": w, "dir": side, "r": r.kind},
            [("load", 1), ("d", w)],
            [("q", w)],
            flop(r, ["q <= 0;"], [f"q <= load ? d : q {'+' if up else '-'} 1;"]),
            [
                f"A {w}-bit counter q that counts {side} by 1 and loads d when load is 1{by_reset(r)} to 0.",
                f"If load is 1 store d in q, else q counts {side} ({plural(w)}){by_reset(r)}.",
                f"Make a {w}-bit {side} counter q with load input d{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


def _pulse_divider(n: int, r: Reset) -> dict[str, Any]:
    w = (n - 1).bit_length()
    return case(
        {"every": n, "r": r.kind},
        [],
        [("tick", 1)],
        [
            f"reg [{w - 1}:0] c;",
            *flop(r, ["c <= 0;"], [f"c <= (c == {n - 1}) ? 0 : c + 1;"]),
            f"assign tick = c == {n - 1};",
        ],
        [
            f"Output tick is 1 in one of every {n} clock cycles{by_reset(r)}; the first is {n - 1} cycles "
            f"after reset.",
            f"A clock divider by {n}: tick is 1 while the counter is {n - 1}{by_reset(r)}.",
            f"Pulse tick every {n} clocks, when a counter from 0 reaches {n - 1}{by_reset(r)}.",
        ],
        reset=r,
    )


@template("divider", "counter")
def divider() -> Cases:
    for n, r in product((3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24), RESETS):
        yield _pulse_divider(n, r)


@template("shift_reg", "shift register")
def shift_reg() -> Cases:
    for w, left, r in product(WIDTHS, (1, 0), (NO_RESET, *RESETS)):
        side = "left" if left else "right"
        step = f"q <= {{q[{w - 2}:0], in}};" if left else f"q <= {{in, q[{w - 1}:1]}};"
        end = "lowest" if left else "highest"
        yield case(
            {"w": w, "side": side, "r": r.kind},
            [("in", 1)],
            [("q", w)],
            flop(r, ["q <= 0;"], [step]),
            [
                f"A {w}-bit shift register q that shifts {side}, in enters at the {end} bit{by_reset(r)}.",
                f"At each rising edge of clk shift q {side} by one and put in into the {end} bit "
                f"({plural(w)}){by_reset(r)}.",
                f"Make a {w}-bit {side} shift register with serial input in{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("rotate_reg", "shift register")
def rotate_reg() -> Cases:
    for w, left, r in product(WIDTHS, (1, 0), RESETS):
        side = "left" if left else "right"
        step = f"q <= {{q[{w - 2}:0], q[{w - 1}]}};" if left else f"q <= {{q[0], q[{w - 1}:1]}};"
        yield case(
            {"w": w, "side": side, "r": r.kind},
            [],
            [("q", w)],
            flop(r, ["q <= 1;"], [step]),
            [
                f"A {w}-bit ring counter q that rotates {side} by one at each clock{by_reset(r)} to 1.",
                f"At each rising edge of clk rotate q {side} ({plural(w)}){by_reset(r)} that sets q to 1.",
                f"Make a one-hot {w}-bit ring {side}{by_reset(r)}; reset value 1.",
            ],
            reset=r,
            reg=True,
        )


@template("johnson", "shift register")
def johnson() -> Cases:
    for w, r in product(WIDTHS, RESETS):
        yield case(
            {"w": w, "r": r.kind},
            [],
            [("q", w)],
            flop(r, ["q <= 0;"], [f"q <= {{q[{w - 2}:0], ~q[{w - 1}]}};"]),
            [
                f"A {w}-bit Johnson counter q shifting left{by_reset(r)} to 0.",
                f"At each rising edge of clk shift q left and put the inverse of its top bit in "
                f"({plural(w)}){by_reset(r)}.",
                f"Make a Johnson counter, {plural(w)}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("delay2", "shift register")
def delay2() -> Cases:
    for w, r, (d, q) in product((1, *WIDTHS), (NO_RESET, *RESETS[:2]), DATA):
        decl = f"reg {f'[{w - 1}:0] ' if w > 1 else ''}t;"
        yield case(
            {"w": w, "r": r.kind, "n": q},
            [(d, w)],
            [(q, w)],
            [decl, *flop(r, ["t <= 0;", f"{q} <= 0;"], [f"t <= {d};", f"{q} <= t;"])],
            [
                f"Delay {d} by two clock cycles; the {w}-bit output is {q}{by_reset(r)}.",
                f"{q} is {d} two rising clock edges later ({plural(w)}){by_reset(r)}.",
                f"Make two flip-flop stages from {d} to {q}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


def _edge(kind: str, expr: str) -> Cases:
    for w, r, y in product((1, 2, 4, 8), RESETS, ("y", "pulse")):
        decl = f"reg {f'[{w - 1}:0] ' if w > 1 else ''}last;"
        yield case(
            {"w": w, "r": r.kind, "n": y},
            [("in", w)],
            [(y, w)],
            [decl, *flop(r, ["last <= 0;", f"{y} <= 0;"], ["last <= in;", f"{y} <= {expr};"])],
            [
                f"Detect a {kind} edge of in: {y} is 1 for one clock after it ({plural(w)}){by_reset(r)}.",
                f"For each bit of in, {y} is set in the cycle after a {kind} edge{by_reset(r)}.",
                f"A {w}-bit {kind} edge detector from in to {y}{by_reset(r)}.",
            ],
            reset=r,
            reg=True,
        )


@template("edge_rising", "detector")
def edge_rising() -> Cases:
    yield from _edge("rising", "in & ~last")


@template("edge_falling", "detector")
def edge_falling() -> Cases:
    yield from _edge("falling", "~in & last")


@template("edge_any", "detector")
def edge_any() -> Cases:
    yield from _edge("rising or falling", "in ^ last")


@template("sequence", "detector")
def sequence() -> Cases:
    for n, r in product((2, 3), RESETS):
        for value in range(2**n):
            pattern = f"{value:0{n}b}"
            low = f"h[{n - 2}:0]" if n > 2 else "h[0]"
            yield case(
                {"p": pattern, "r": r.kind},
                [("in", 1)],
                [("y", 1)],
                [
                    f"reg [{n - 1}:0] h;",
                    *flop(r, ["h <= 0;"], [f"h <= {{{low}, in}};"]),
                    f"assign y = h == {n}'b{pattern};",
                ],
                [
                    f"Output y is 1 when the last {n} samples of in were {pattern}{by_reset(r)} of the "
                    f"history to 0.",
                    f"Detect the sequence {pattern} on in (oldest first), overlapping{by_reset(r)}.",
                    f"A detector of the pattern {pattern} on the serial input in{by_reset(r)}.",
                ],
                reset=r,
            )


@template("fsm2", "detector")
def fsm2() -> Cases:
    for go, back, out, r in product((0, 1), (0, 1), (0, 1), RESETS):
        leave = f"{'' if go else '~'}in"
        ret = f"{'~' if back else ''}in"
        yield case(
            {"go": go, "back": back, "out": out, "r": r.kind},
            [("in", 1)],
            [("y", 1)],
            [
                "reg s;",
                *flop(r, ["s <= 0;"], [f"s <= s ? {ret} : {leave};"]),
                f"assign y = {'s' if out else '~s'};",
            ],
            [
                f"A machine with states A and B: A goes to B when in is {go}, B to A when in is {back}; "
                f"y is 1 in {'B' if out else 'A'}{by_reset(r)} to A.",
                f"Two states: leave A if in is {go}, leave B if in is {back}, output y is 1 in "
                f"{'B' if out else 'A'}{by_reset(r)} to state A.",
                f"FSM: from A to B on in {go}, from B to A on in {back}; y is {'1' if out else '0'} in B and "
                f"{'0' if out else '1'} in A{by_reset(r)} to A.",
            ],
            reset=r,
        )

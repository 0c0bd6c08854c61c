"""Templates of wiring and bitwise logic."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

from itercli.data.rtl_tasks.task import case, plural, template

Cases = Iterator[dict[str, Any]]
GATES = {"and": "&", "or": "|", "xor": "^", "nand": "&", "nor": "|", "xnor": "^"}
INVERTED = ("nand", "nor", "xnor")
NAMES = (("a", "b", "y"), ("x", "y", "z"), ("in1", "in2", "out"))
UNARY = (("a", "y"), ("in", "out"), ("x", "z"))
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)


def gate(op: str, *names: str) -> str:
    """Expression of a gate over any number of operands."""
    text = f" {GATES[op]} ".join(names)
    return f"~({text})" if op in INVERTED else text


@template("gate2", "gates")
def gate2() -> Cases:
    for op, w, (a, b, y) in product(GATES, WIDTHS, NAMES):
        yield case(
            {"op": op, "w": w, "n": y},
            [(a, w), (b, w)],
            [(y, w)],
            f"assign {y} = {gate(op, a, b)};",
            [
                f"Build a {w}-bit bitwise {op.upper()} of {a} and {b}. The result is {y}.",
                f"Output {y} is {a} {op.upper()} {b}, bit by bit, on {plural(w)}.",
                f"Make a {op.upper()} gate with {w}-bit inputs {a} and {b} and output {y}.",
            ],
        )


@template("gate3", "gates")
def gate3() -> Cases:
    for op, w in product(GATES, WIDTHS):
        yield case(
            {"op": op, "w": w},
            [("a", w), ("b", w), ("c", w)],
            [("y", w)],
            f"assign y = {gate(op, 'a', 'b', 'c')};",
            [
                f"Build a {w}-bit bitwise {op.upper()} of a, b and c. The result is y.",
                f"Output y is a {op.upper()} b {op.upper()} c, bit by bit, on {plural(w)}.",
                f"Make a {op.upper()} gate with {w}-bit inputs a, b and c and output y.",
            ],
        )


@template("gate4", "gates")
def gate4() -> Cases:
    for op, w in product(GATES, WIDTHS):
        ins = ("a", "b", "c", "d")
        yield case(
            {"op": op, "w": w},
            [(n, w) for n in ins],
            [("y", w)],
            f"assign y = {gate(op, *ins)};",
            [
                f"Build a {w}-bit bitwise {op.upper()} of a, b, c and d. The result is y.",
                f"Make a {op.upper()} gate with {w}-bit inputs a, b, c and d and output y.",
                f"Output y is the {op.upper()} of the four inputs, {plural(w)} wide.",
            ],
        )


@template("inverter", "gates")
def inverter() -> Cases:
    for inv, w, (a, y) in product((0, 1), WIDTHS, UNARY):
        what = "the inverse of" if inv else "a copy of"
        yield case(
            {"inv": inv, "w": w, "n": y},
            [(a, w)],
            [(y, w)],
            f"assign {y} = {'~' if inv else ''}{a};",
            [
                f"Drive {y} with {what} {a} ({plural(w)}).",
                f"Output {y} is {what} the {w}-bit input {a}.",
                f"{'Invert every bit of' if inv else 'Pass through'} {a} to {y}, {plural(w)}.",
            ],
        )


@template("pair_gates", "gates")
def pair_gates() -> Cases:
    for (p, q), w in product(permutations(GATES, 2), (1, 2, 4, 8)):
        yield case(
            {"p": p, "q": q, "w": w},
            [("a", w), ("b", w)],
            [("y", w), ("z", w)],
            [f"assign y = {gate(p, 'a', 'b')};", f"assign z = {gate(q, 'a', 'b')};"],
            [
                f"Output y is a {p.upper()} b and output z is a {q.upper()} b, {plural(w)} wide.",
                f"Compute two {w}-bit results: y = {p.upper()} of a and b, z = {q.upper()} of a and b.",
                f"Make a {p.upper()} gate driving y and a {q.upper()} gate driving z, inputs a and b.",
            ],
        )


@template("bool_expr", "gates")
def bool_expr() -> Cases:
    for p, q, na, nb, nc in product(("and", "or", "xor"), ("and", "or", "xor"), (0, 1), (0, 1), (0, 1)):
        t = [("~" if n else "") + v for n, v in zip((na, nb, nc), "abc", strict=True)]
        s = [("NOT " if n else "") + v for n, v in zip((na, nb, nc), "abc", strict=True)]
        yield case(
            {"p": p, "q": q, "inv": f"{na}{nb}{nc}"},
            [("a", 1), ("b", 1), ("c", 1)],
            [("y", 1)],
            f"assign y = ({t[0]} {GATES[p]} {t[1]}) {GATES[q]} {t[2]};",
            [
                f"Output y is ({s[0]} {p.upper()} {s[1]}) {q.upper()} {s[2]}.",
                f"Implement the Boolean expression y = ({s[0]} {p.upper()} {s[1]}) {q.upper()} {s[2]}.",
                f"Compute ({s[0]} {p.upper()} {s[1]}) {q.upper()} {s[2]} and drive y with it.",
            ],
        )


@template("constant", "wiring")
def constant() -> Cases:
    for w in (3, 4, 6, 8):
        for value in range(0, 2**w, max(1, 2**w // 24)):
            yield case(
                {"w": w, "v": value},
                [],
                [("y", w)],
                f"assign y = {w}'d{value};",
                [
                    f"Drive the {w}-bit output y with the constant {value}.",
                    f"Output y always has the value {value} ({plural(w)}).",
                    f"There is no input; y equals {value}.",
                ],
            )


@template("slice", "wiring")
def slice_() -> Cases:
    for w in (4, 6, 8, 12, 16):
        for lo in range(0, w - 1, 2 if w > 8 else 1):
            for size in (2, 3, 4, 8):
                hi = lo + size - 1
                if hi >= w or size == w:
                    continue
                yield case(
                    {"w": w, "hi": hi, "lo": lo},
                    [("a", w)],
                    [("y", size)],
                    f"assign y = a[{hi}:{lo}];",
                    [
                        f"Output y is bits {hi} to {lo} of the {w}-bit input a.",
                        f"Extract the slice from bit {lo} up to bit {hi} of a.",
                        f"Select {plural(size)} of a, bits {hi} down to {lo}, and drive y.",
                    ],
                )


@template("pick_bit", "wiring")
def pick_bit() -> Cases:
    for w, (a, y) in product((4, 8, 16), UNARY):
        for i in range(w):
            yield case(
                {"w": w, "i": i, "n": y},
                [(a, w)],
                [(y, 1)],
                f"assign {y} = {a}[{i}];",
                [
                    f"Output {y} is bit {i} of {a}.",
                    f"Select bit {i} of the {w}-bit input {a}.",
                    f"Drive {y} with bit number {i} of {a}.",
                ],
            )


@template("split", "wiring")
def split() -> Cases:
    for w in range(4, 34, 2):
        for hi, lo in (("hi", "lo"), ("upper", "lower")):
            yield case(
                {"w": w, "n": hi},
                [("a", w)],
                [(hi, w // 2), (lo, w // 2)],
                [f"assign {hi} = a[{w - 1}:{w // 2}];", f"assign {lo} = a[{w // 2 - 1}:0];"],
                [
                    f"Split the {w}-bit input a into its upper half {hi} and its lower half {lo}.",
                    f"Output {hi} is the upper half of a and {lo} the lower half; a has {plural(w)}.",
                    f"Cut a in two halves of {plural(w // 2)}: {hi} (top) and {lo} (bottom).",
                ],
            )


@template("concat", "wiring")
def concat() -> Cases:
    for wa, wb, first in product((1, 2, 3, 4, 5, 8), (1, 2, 3, 4, 5, 8), ("a", "b")):
        other = "b" if first == "a" else "a"
        yield case(
            {"wa": wa, "wb": wb, "first": first},
            [("a", wa), ("b", wb)],
            [("y", wa + wb)],
            f"assign y = {{{first}, {other}}};",
            [
                f"Concatenate a and b into y with {first} in the upper bits.",
                f"Output y holds {first} in its upper bits and {other} in its lower bits.",
                f"Join {first} (top) and {other} (bottom) to form y, {plural(wa + wb)}.",
            ],
        )


@template("swap_halves", "wiring")
def swap_halves() -> Cases:
    for w, (a, y) in product(range(4, 34, 2), UNARY):
        h = w // 2
        yield case(
            {"w": w, "n": y},
            [(a, w)],
            [(y, w)],
            f"assign {y} = {{{a}[{h - 1}:0], {a}[{w - 1}:{h}]}};",
            [
                f"Swap the upper half and the lower half of {a} to form {y} ({plural(w)}).",
                f"Output {y} is {a} with its two halves of {plural(h)} exchanged.",
                f"Exchange the halves of the {w}-bit input {a}; the result is {y}.",
            ],
        )


@template("reverse", "wiring")
def reverse() -> Cases:
    for w, (a, y) in product(range(2, 9), UNARY):
        yield case(
            {"w": w, "n": y},
            [(a, w)],
            [(y, w)],
            f"assign {y} = {{{', '.join(f'{a}[{i}]' for i in range(w))}}};",
            [
                f"Reverse the bit order of {a} to form {y} ({plural(w)}).",
                f"Output {y} is the {w}-bit input {a} with its bits in reverse order.",
                f"Reverse the {plural(w)} of {a}; the result is {y}.",
            ],
        )


@template("extend", "wiring")
def extend() -> Cases:
    for (w, big), sign in product(
        [(w, b) for w in (2, 3, 4, 5, 6, 8) for b in (8, 10, 12, 16) if b > w], (0, 1)
    ):
        fill = f"{{{big - w}{{a[{w - 1}]}}}}" if sign else f"{big - w}'d0"
        kind = "Sign" if sign else "Zero"
        yield case(
            {"w": w, "to": big, "sign": sign},
            [("a", w)],
            [("y", big)],
            f"assign y = {{{fill}, a}};",
            [
                f"{kind} extend the {w}-bit input a to {plural(big)}.",
                f"Output y is a, {kind.lower()} extended from {w} to {plural(big)}.",
                f"{kind} extension: widen a ({plural(w)}) to y ({plural(big)}).",
            ],
        )


@template("replicate", "wiring")
def replicate() -> Cases:
    for n, (a, y) in product(range(2, 17), UNARY):
        yield case(
            {"times": n, "n": y},
            [(a, 1)],
            [(y, n)],
            f"assign {y} = {{{n}{{{a}}}}};",
            [
                f"Copy the bit {a} to all {plural(n)} of {y}.",
                f"Output {y} repeats {a} {n} times.",
                f"Replicate {a} {n} times to form {y}.",
            ],
        )


@template("reduce", "reduction")
def reduce() -> Cases:
    for op, w, (a, y) in product(GATES, (2, 3, 4, 5, 6, 8, 12, 16), UNARY):
        sym = ("~" if op in INVERTED else "") + GATES[op]
        yield case(
            {"op": op, "w": w, "n": y},
            [(a, w)],
            [(y, 1)],
            f"assign {y} = {sym}{a};",
            [
                f"Output {y} is the {op.upper()} of all {plural(w)} of {a}.",
                f"Reduce the {w}-bit input {a} with {op.upper()} to one bit {y}.",
                f"Compute the reduction {op.upper()} of {a}; the result is {y}.",
            ],
        )


@template("parity", "reduction")
def parity() -> Cases:
    for even, w, a in product((0, 1), range(2, 17), ("a", "data")):
        kind = "even" if even else "odd"
        rule = f"the ones in {a} and parity together are {kind} in number"
        yield case(
            {"kind": kind, "w": w, "n": a},
            [(a, w)],
            [("parity", 1)],
            f"assign parity = {'^' if even else '~^'}{a};",
            [
                f"Compute the {kind} parity bit of the {w}-bit input {a}.",
                f"Output parity is the {kind} parity of {a}: {rule}.",
                f"Generate {kind} parity for {a} ({plural(w)}).",
            ],
        )


@template("popcount", "reduction")
def popcount() -> Cases:
    for w, (a, y) in product(range(2, 8), UNARY):
        yield case(
            {"w": w, "n": y},
            [(a, w)],
            [(y, w.bit_length())],
            f"assign {y} = {' + '.join(f'{a}[{i}]' for i in range(w))};",
            [
                f"Count the ones in the {w}-bit input {a}; the number is {y}.",
                f"Output {y} is the number of ones in {a} ({plural(w)}).",
                f"Population count of {a}, {plural(w)}.",
            ],
        )


@template("majority", "gates")
def majority() -> Cases:
    for w, inv in product(WIDTHS, (0, 1)):
        vote = "(a & b) | (a & c) | (b & c)"
        kind = "minority" if inv else "majority"
        yield case(
            {"w": w, "inv": inv},
            [("a", w), ("b", w), ("c", w)],
            [("y", w)],
            f"assign y = {f'~({vote})' if inv else vote};",
            [
                f"Output y is the bitwise {kind} of a, b and c ({plural(w)}).",
                f"Compute the {kind} vote of three {w}-bit inputs for each bit.",
                f"Each bit of y is the {kind} value of that bit in a, b and c.",
            ],
        )


@template("mask", "wiring")
def mask() -> Cases:
    for op, w in product(("set", "clear", "toggle"), (4, 8, 16)):
        for i in range(w):
            expr = {"set": f"a | {w}'d{2**i}", "clear": f"a & ~{w}'d{2**i}", "toggle": f"a ^ {w}'d{2**i}"}[op]
            yield case(
                {"op": op, "w": w, "i": i},
                [("a", w)],
                [("y", w)],
                f"assign y = {expr};",
                [
                    f"Output y is a with bit {i} {op if op != 'toggle' else 'toggled'} ({plural(w)}).",
                    f"{op.capitalize()} bit {i} of the {w}-bit input a.",
                    f"Copy a to y but {op} bit {i}.",
                ],
            )


@template("gated", "gates")
def gated() -> Cases:
    for w, high, (a, y) in product(WIDTHS, (1, 0), UNARY):
        yield case(
            {"w": w, "high": high, "n": y},
            [("en", 1), (a, w)],
            [(y, w)],
            f"assign {y} = en ? {a} : {w}'d0;" if high else f"assign {y} = en ? {w}'d0 : {a};",
            [
                f"Output {y} is {a} when en is {high}, else 0 ({plural(w)}).",
                f"Gate the {w}-bit input {a}: {y} follows it while en is {high} and is 0 otherwise.",
                f"If en is {1 - high} then {y} is 0, otherwise {y} equals {a}.",
            ],
        )

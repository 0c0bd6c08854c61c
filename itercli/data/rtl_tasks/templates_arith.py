"""Templates of selection, arithmetic, comparison, coding and shifting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from itercli.data.rtl_tasks.task import case, plural, template
from itercli.data.rtl_tasks.templates_logic import GATES, NAMES, UNARY, WIDTHS, gate

Cases = Iterator[dict[str, Any]]
COMPARE = {
    "<": "less than",
    "<=": "less than or equal to",
    ">": "greater than",
    ">=": "greater than or equal to",
    "==": "equal to",
    "!=": "different from",
}
OPS = {"and": "&", "or": "|", "xor": "^", "add": "+", "sub": "-"}


@template("mux2", "mux")
def mux2() -> Cases:
    for w, one, (a, b, y) in product(WIDTHS, (0, 1), NAMES):
        hit, other = (a, b) if one == 0 else (b, a)
        yield case(
            {"w": w, "one": one, "n": y},
            [("sel", 1), (a, w), (b, w)],
            [(y, w)],
            f"assign {y} = sel ? {hit} : {other};",
            [
                f"A 2-to-1 multiplexer, {plural(w)}: {y} is {hit} when sel is 1, else {other}.",
                f"Select {hit} if sel is 1 and {other} if sel is 0; the {w}-bit output is {y}.",
                f"When sel is 0 output {y} is {other}, otherwise {hit}.",
            ],
        )


@template("mux4", "mux")
def mux4() -> Cases:
    orders = ("abcd", "dcba", "badc", "cdab", "acbd", "bcda")
    for w, order in product((1, 2, 3, 4, 6, 8, 12, 16), orders):
        a, b, c, d = tuple(order)
        yield case(
            {"w": w, "order": order},
            [("sel", 2), *((n, w) for n in "abcd")],
            [("y", w)],
            f"assign y = sel[1] ? (sel[0] ? {d} : {c}) : (sel[0] ? {b} : {a});",
            [
                f"A 4-to-1 multiplexer, {plural(w)}: sel 0, 1, 2, 3 selects {a}, {b}, {c}, {d}.",
                f"Select {a}, {b}, {c} or {d} when sel is 0, 1, 2 or 3; the {w}-bit output is y.",
                f"Output y is {a} for sel 0, {b} for sel 1, {c} for sel 2 and {d} for sel 3.",
            ],
        )


@template("mux_op", "mux")
def mux_op() -> Cases:
    for p, q, w in product(OPS, OPS, (4, 8, 16)):
        if p == q:
            continue
        yield case(
            {"p": p, "q": q, "w": w},
            [("sel", 1), ("a", w), ("b", w)],
            [("y", w)],
            f"assign y = sel ? a {OPS[p]} b : a {OPS[q]} b;",
            [
                f"Output y is a {p.upper()} b when sel is 1, else a {q.upper()} b ({plural(w)}).",
                f"A {w}-bit unit with two operations: {q.upper()} if sel is 0, {p.upper()} if sel is 1.",
                f"When sel is 1 compute a {p.upper()} b, otherwise a {q.upper()} b; the result is y.",
            ],
        )


@template("mux_inv", "mux")
def mux_inv() -> Cases:
    for w, one, keep in product(WIDTHS, (0, 1), ("a", "b")):
        other = "b" if keep == "a" else "a"
        arms = (f"~{other}", keep) if one else (keep, f"~{other}")
        yield case(
            {"w": w, "one": one, "keep": keep},
            [("sel", 1), ("a", w), ("b", w)],
            [("y", w)],
            f"assign y = sel ? {arms[0]} : {arms[1]};",
            [
                f"When sel is {one} output y is the inverse of {other}, otherwise {keep} ({plural(w)}).",
                f"Select the inverse of {other} if sel is {one} and {keep} if sel is {1 - one}; the {w}-bit "
                f"output is y.",
                f"Output y is {keep} when sel is {1 - one}, else the inverse of {other}.",
            ],
        )


@template("demux2", "mux")
def demux2() -> Cases:
    for w, swap in product(WIDTHS, (0, 1)):
        one, zero = ("y", "z") if swap else ("z", "y")
        yield case(
            {"w": w, "one": one},
            [("sel", 1), ("a", w)],
            [("y", w), ("z", w)],
            [f"assign {one} = sel ? a : {w}'d0;", f"assign {zero} = sel ? {w}'d0 : a;"],
            [
                f"A demultiplexer, {plural(w)}: a goes to {one} when sel is 1, else to {zero}; the other "
                f"output is 0.",
                f"Route the {w}-bit input a to {zero} if sel is 0 and to {one} if sel is 1. The other output "
                f"is 0.",
                f"When sel is 1 {one} is a and {zero} is 0, otherwise {zero} is a and {one} is 0.",
            ],
        )


@template("add", "arithmetic")
def add() -> Cases:
    for op, w, (a, b, y) in product(("+", "-"), WIDTHS[1:], NAMES):
        verb = "sum" if op == "+" else "difference"
        yield case(
            {"op": verb, "w": w, "n": y},
            [(a, w), (b, w)],
            [(y, w)],
            f"assign {y} = {a} {op} {b};",
            [
                f"Output {y} is the {w}-bit {verb} {a} {'plus' if op == '+' else 'minus'} {b}, without carry.",  # noqa: E501
                f"{'Add' if op == '+' else 'Subtract'}: {y} = {a} {op} {b}, {plural(w)}.",
                f"Compute the {verb} of {a} and {b} ({a} {op} {b}); the result is {y}.",
            ],
        )


@template("add_carry", "arithmetic")
def add_carry() -> Cases:
    for w, cin, s in product(WIDTHS, (0, 1), ("s", "sum")):
        ins = [("a", w), ("b", w), *([("cin", 1)] if cin else [])]
        tail = " and the carry in cin" if cin else ""
        yield case(
            {"w": w, "cin": cin, "n": s},
            ins,
            [(s, w), ("cout", 1)],
            f"assign {{cout, {s}}} = a + b{' + cin' if cin else ''};",
            [
                f"Add the {w}-bit inputs a and b{tail}; {s} is the sum and cout the carry out.",
                f"A {w}-bit adder of a, b{tail} with output {s} and carry out cout.",
                f"Compute a plus b{tail}: {plural(w)} in {s}, the carry out in cout.",
            ],
        )


@template("add_const", "arithmetic")
def add_const() -> Cases:
    for w, k, op in product((4, 6, 8, 12), (1, 2, 3, 4, 5, 7, 9, 10, 13), ("+", "-")):
        yield case(
            {"w": w, "k": k, "op": "add" if op == "+" else "sub"},
            [("a", w)],
            [("y", w)],
            f"assign y = a {op} {w}'d{k};",
            [
                f"{'Add' if op == '+' else 'Subtract'} {k} {'to' if op == '+' else 'from'} the {w}-bit input a.",  # noqa: E501
                f"Output y is a {'plus' if op == '+' else 'minus'} {k}, {plural(w)}.",
                f"Compute a {op} {k}; the result is y.",
            ],
        )


@template("negate", "arithmetic")
def negate() -> Cases:
    for w, kind, (a, y) in product(WIDTHS[1:], ("neg", "abs"), UNARY):
        expr = f"-{a}" if kind == "neg" else f"{a}[{w - 1}] ? -{a} : {a}"
        what = "negative (two's complement)" if kind == "neg" else "absolute value"
        yield case(
            {"kind": kind, "w": w, "n": y},
            [(a, w)],
            [(y, w)],
            f"assign {y} = {expr};",
            [
                f"Output {y} is the {what} of the {w}-bit signed input {a}.",
                f"Compute the {what} of {a}, {plural(w)}; the result is {y}.",
                f"Take {a} as signed and drive {y} with its {what}.",
            ],
        )


@template("mul_const", "arithmetic")
def mul_const() -> Cases:
    for w, k in product((4, 6, 8, 10, 12, 16), (2, 3, 4, 5, 6, 7, 9, 10)):
        yield case(
            {"w": w, "k": k},
            [("a", w)],
            [("y", w)],
            f"assign y = a * {k};",
            [
                f"Multiply the {w}-bit input a by {k}.",
                f"Output y is {k} times a, cut to {plural(w)}.",
                f"Compute a * {k}; the result is y.",
            ],
        )


@template("compare", "compare")
def compare() -> Cases:
    for (op, words), w, (a, b, y) in product(COMPARE.items(), (2, 3, 4, 5, 6, 8, 12), NAMES):
        yield case(
            {"op": words.replace(" ", "_"), "w": w, "n": y},
            [(a, w), (b, w)],
            [(y, 1)],
            f"assign {y} = {a} {op} {b};",
            [
                f"Output {y} is 1 when {a} is {words} {b} ({plural(w)}, unsigned).",
                f"Compare the {w}-bit inputs: {y} tells if {a} is {words} {b}.",
                f"Set {y} if {a} is {words} {b}, else clear it.",
            ],
        )


@template("compare_const", "compare")
def compare_const() -> Cases:
    for (op, words), w, k in product(COMPARE.items(), (4, 6, 8), (3, 5, 6, 9, 10, 12)):
        yield case(
            {"op": words.replace(" ", "_"), "w": w, "k": k},
            [("a", w)],
            [("y", 1)],
            f"assign y = a {op} {w}'d{k};",
            [
                f"Output y is 1 when the {w}-bit input a is {words} {k}.",
                f"Compare a with the constant {k}: y tells if a is {words} {k}.",
                f"Set y if a is {words} {k}, else clear it.",
            ],
            corners=(k,),
        )


@template("in_range", "compare")
def in_range() -> Cases:
    for w, lo, size, inside in product((4, 6, 8), (2, 3, 5, 7), (2, 4, 6, 8), (1, 0)):
        hi = lo + size
        test = f"(a >= {w}'d{lo}) && (a <= {w}'d{hi})"
        where = "inside" if inside else "outside"
        yield case(
            {"w": w, "lo": lo, "hi": hi, "is": where},
            [("a", w)],
            [("y", 1)],
            f"assign y = {test if inside else f'!({test})'};",
            [
                f"Output y is 1 when a is {where} the range {lo} to {hi} ({plural(w)}).",
                f"Set y if the {w}-bit input a lies {where} {lo} to {hi}, else clear it.",
                f"Range check: y tells if a is {where} {lo} to {hi}.",
            ],
            corners=(lo, hi),
        )


def _extreme(kind: str, op: str) -> Cases:
    for w, (a, b, y) in product(WIDTHS[1:], NAMES):
        size = "smaller" if kind == "minimum" else "larger"
        yield case(
            {"w": w, "n": y},
            [(a, w), (b, w)],
            [(y, w)],
            f"assign {y} = ({a} {op} {b}) ? {a} : {b};",
            [
                f"Output {y} is the {kind} of {a} and {b} ({plural(w)}, unsigned).",
                f"Drive {y} with the {size} of the {w}-bit inputs {a} and {b}.",
                f"{y} is {a} when {a} is {'less' if op == '<' else 'greater'} than {b}, else {b}.",
            ],
        )


@template("min2", "compare")
def min2() -> Cases:
    yield from _extreme("minimum", "<")


@template("max2", "compare")
def max2() -> Cases:
    yield from _extreme("maximum", ">")


@template("abs_diff", "compare")
def abs_diff() -> Cases:
    for w, (a, b, y) in product(WIDTHS[1:], NAMES):
        yield case(
            {"w": w, "n": y},
            [(a, w), (b, w)],
            [(y, w)],
            f"assign {y} = ({a} > {b}) ? {a} - {b} : {b} - {a};",
            [
                f"Output {y} is the absolute difference of {a} and {b} ({plural(w)}, unsigned).",
                f"Compute the distance of the {w}-bit inputs: the larger of {a} and {b} minus the smaller.",
                f"{y} is {a} - {b} when {a} is greater than {b}, else {b} - {a}.",
            ],
        )


@template("decoder", "coding")
def decoder() -> Cases:
    for n, en, low, (a, y) in product((1, 2, 3, 4), (0, 1), (0, 1), UNARY):
        expr = f"en ? (1 << {a}) : 0" if en else f"1 << {a}"
        expr = f"~({expr})" if low else expr
        level = "low" if low else "high"
        tail = " while en is 1; no output is active while en is 0" if en else ""
        yield case(
            {"n": n, "en": en, "low": low, "y": y},
            [*([("en", 1)] if en else []), (a, n)],
            [(y, 2**n)],
            f"assign {y} = {expr};",
            [
                f"A {n}-to-{2**n} decoder with active-{level} outputs: bit {a} of {y} is active{tail}.",
                f"Decode the {n}-bit input {a} to one-hot {y}, active {level}{tail}.",
                f"Make only bit number {a} of {y} {'0' if low else '1'}{tail}.",
            ],
        )


@template("priority", "coding")
def priority() -> Cases:
    for w, top, (a, y) in product((2, 3, 4, 5, 6), (0, 1), UNARY):
        order = list(range(w - 1, 0, -1)) if top else list(range(w - 1))
        last = 0 if top else w - 1
        end = "highest" if top else "lowest"
        chain = " : ".join([f"{a}[{i}] ? {i}" for i in order] + [str(last)])
        yield case(
            {"w": w, "end": end, "n": y},
            [(a, w)],
            [(y, (w - 1).bit_length())],
            f"assign {y} = {chain};",
            [
                f"A priority encoder: {y} is the number of the {end} set bit of {a} ({plural(w)}); {last} if "
                f"none.",
                f"Find the {end} bit of the {w}-bit input {a} that is 1; {y} is its index, {last} if {a} is 0.",  # noqa: E501
                f"Priority encode {a}, {end} bit first, into {y}.",
            ],
        )


@template("gray", "coding")
def gray() -> Cases:
    for w, (a, y) in product(range(2, 17), UNARY):
        yield case(
            {"w": w, "n": y},
            [(a, w)],
            [(y, w)],
            f"assign {y} = {a} ^ ({a} >> 1);",
            [
                f"Convert the {w}-bit binary number {a} to Gray code {y}.",
                f"Output {y} is the Gray code of {a} ({plural(w)}).",
                f"Binary {a} to Gray {y}, {plural(w)}.",
            ],
        )


@template("lookup", "coding")
def lookup() -> Cases:
    for t in range(0, 256, 3):
        v = [t >> 6 & 3, t >> 4 & 3, t >> 2 & 3, t & 3]
        yield case(
            {"t": "".join(map(str, v))},
            [("a", 2)],
            [("y", 2)],
            [
                "always @(*)",
                "    case (a)",
                *(f"        {i}: y = {v[i]};" for i in range(3)),
                f"        default: y = {v[3]};",
                "    endcase",
            ],
            [
                f"Output y is {v[0]}, {v[1]}, {v[2]}, {v[3]} for a equal to 0, 1, 2, 3.",
                f"Implement the table: a 0, 1, 2, 3 gives y {v[0]}, {v[1]}, {v[2]}, {v[3]}.",
                f"A lookup table with values {v[0]}, {v[1]}, {v[2]}, {v[3]} selected by a.",
            ],
            reg=True,
        )


@template("shift_const", "shift")
def shift_const() -> Cases:
    for w, k, left, (a, y) in product((4, 6, 8, 12, 16), (1, 2, 3, 4), (1, 0), UNARY):
        if k >= w:
            continue
        side = "left" if left else "right"
        yield case(
            {"w": w, "k": k, "side": side, "n": y},
            [(a, w)],
            [(y, w)],
            f"assign {y} = {a} {'<<' if left else '>>'} {k};",
            [
                f"Shift the {w}-bit input {a} {side} by {k}, filling with zeros.",
                f"Output {y} is {a} shifted {side} by {plural(k)}.",
                f"Logical {side} shift of {a} by {k} into {y}, {plural(w)}.",
            ],
        )


@template("shift_var", "shift")
def shift_var() -> Cases:
    for w, n, left, (a, y) in product((4, 6, 8, 10, 12, 16), (2, 3), (1, 0), UNARY):
        side = "left" if left else "right"
        yield case(
            {"w": w, "by": n, "side": side, "n": y},
            [(a, w), ("n", n)],
            [(y, w)],
            f"assign {y} = {a} {'<<' if left else '>>'} n;",
            [
                f"Shift the {w}-bit input {a} {side} by n, filling with zeros.",
                f"Output {y} is {a} shifted {side} by the number n.",
                f"Logical {side} shift of {a} by n into {y}, {plural(w)}.",
            ],
        )


@template("shift_arith", "shift")
def shift_arith() -> Cases:
    for w, k in product((4, 5, 6, 7, 8, 10, 12, 16), (1, 2, 3)):
        yield case(
            {"w": w, "k": k},
            [("a", w)],
            [("y", w)],
            f"assign y = {{{{{k}{{a[{w - 1}]}}}}, a[{w - 1}:{k}]}};",
            [
                f"Arithmetic right shift of the {w}-bit input a by {k}, keeping the sign.",
                f"Output y is a shifted right by {plural(k)} with the sign bit copied in ({plural(w)}).",
                f"Shift a right by {k} and fill with its top bit.",
            ],
        )


def _rotate(left: bool) -> Cases:
    side = "left" if left else "right"
    for w, k, (a, y) in product((4, 5, 6, 8, 12, 16), (1, 2, 3), UNARY):
        cut = w - k if left else k
        yield case(
            {"w": w, "k": k, "n": y},
            [(a, w)],
            [(y, w)],
            f"assign {y} = {{{a}[{cut - 1}:0], {a}[{w - 1}:{cut}]}};",
            [
                f"Rotate the {w}-bit input {a} {side} by {k}.",
                f"Output {y} is {a} rotated {side} by {plural(k)}.",
                f"Rotate {a} {side} by {k} into {y}, {plural(w)}.",
            ],
        )


@template("rotate_left", "shift")
def rotate_left() -> Cases:
    yield from _rotate(True)


@template("rotate_right", "shift")
def rotate_right() -> Cases:
    yield from _rotate(False)


@template("gate_then_compare", "compare")
def gate_then_compare() -> Cases:
    for op, (cmp, words), w in product(GATES, list(COMPARE.items())[4:], (2, 3, 4, 6, 8)):
        yield case(
            {"op": op, "cmp": words.split()[0], "w": w},
            [("a", w), ("b", w), ("c", w)],
            [("y", 1)],
            f"assign y = ({gate(op, 'a', 'b')}) {cmp} c;",
            [
                f"Output y is 1 when a {op.upper()} b is {words} c ({plural(w)}).",
                f"Set y if the {w}-bit value a {op.upper()} b is {words} c, else clear it.",
                f"Compare a {op.upper()} b with c: y tells if it is {words} c.",
            ],
        )

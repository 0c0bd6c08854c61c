"""Syntax and self-contained checks, with pyslang and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.papers.rtlcoder_score import parse
from itercli.verifiers import slang, slang_guest, verilog_filter
from itercli.verifiers.verilog_filter import self_contained, syntax_errors, unknown_modules

HEADER = "module top_module (input a, output b);\n"
GOOD = HEADER + "assign b = a; endmodule\n"

BAD = {
    "no module": ("assign b = a;", "no module"),
    "not closed": (HEADER + "assign b = a;", "no module with its endmodule"),
    "other name": (GOOD.replace("top_module", "other"), "no module top_module"),
    "port missing": ("module top_module (input a); assign b = a; endmodule", "port b is missing"),
    "port added": ("module top_module (input a, c, output b); assign b = a; endmodule", "port c is not"),
    "port turned": ("module top_module (input a, b); wire c = b; endmodule", "port b is an input"),
    "unknown module": (HEADER + "foo f (.x(a), .y(b)); endmodule", "module foo is not defined"),
    "include": ('`include "x.v"\n' + GOOD, "includes another file"),
    "stub": (HEADER + "wire c; parameter N = 3; endmodule", "has no body"),
    "bench": (GOOD + "module tb; top_module t (); endmodule", "test bench: tb"),
    "finish": (HEADER + "assign b = a; initial $finish; endmodule", "test bench"),
    "syntax": (HEADER + "assign b = a endmodule", "does not parse"),
}


@pytest.fixture(params=["pyslang", "iverilog"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pyslang":
        pytest.importorskip("pyslang")
    else:
        monkeypatch.setattr(verilog_filter, "has_pyslang", lambda: False)
    return request.param


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str, parser: str) -> None:
    code, reason = BAD[name]
    assert any(reason in r for r in self_contained(code, HEADER)), self_contained(code, HEADER)


@pytest.mark.parametrize(
    "code",
    [GOOD, HEADER + "foo f (a, b); endmodule\nmodule foo (input x, output y); assign y = x; endmodule",
     HEADER + "wire c = a; buf (b, c); endmodule",
     "module top_module (a, b); input a; output b; assign b = a; endmodule"],
)  # fmt: skip
def test_accepted(code: str, parser: str) -> None:
    assert self_contained(code, HEADER) == []
    assert self_contained(code, "") == []


def test_parts(parser: str) -> None:
    assert syntax_errors(GOOD) == []
    assert syntax_errors("module m; assign = 1; endmodule")
    assert syntax_errors(" ") == ["no code"]
    assert unknown_modules(HEADER + "x1 u (a); x0 v (b); x1 w (a); endmodule") == ["x0", "x1"]


def test_references_are_self_contained(shared_data) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("pyslang")
    from itercli.data.verilogeval import VerilogEval

    for prompt in VerilogEval(path=Path(shared_data("verilogeval"))).prompts():
        reasons = self_contained(prompt.reference or "", prompt.meta["header"])
        assert reasons == [], (prompt.id, reasons)


RUNAWAY = {
    "arrays of instances": "module leaf(input x); endmodule\n"
    + HEADER
    + "leaf u[0:9999][0:9999](a); assign b = a; endmodule\n",
    "a tree too deep for the stack": "module m; parameter P = a" + ".a()" * 24000 + "; endmodule\n" + GOOD,
    "macros in macros": "`define A0 a\n"
    + "".join(f"`define A{i + 1} `A{i} + `A{i}\n" for i in range(40))
    + HEADER
    + "assign b = `A40; endmodule\n",
}


@pytest.mark.parametrize("name", RUNAWAY)
def test_what_runs_away_is_refused_and_ends_nothing_here(name: str) -> None:
    pytest.importorskip("pyslang")
    assert any("too much to check" in r for r in self_contained(RUNAWAY[name], HEADER))
    assert parse(RUNAWAY[name])[0] in ("bad", "good")  # parsing alone may well succeed
    assert self_contained(GOOD, HEADER) == []


def test_untrusted_text_is_elaborated_in_the_sandbox_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyslang")

    def here(code: str, *, elaborate: bool) -> dict[str, object]:
        raise AssertionError("elaborated in this process" if elaborate else "parsed in this process")

    monkeypatch.setattr(slang_guest, "look", here)
    long = HEADER + "// " + "x" * slang.PARSED_HERE + "\nassign b = a; endmodule\n"
    assert unknown_modules(HEADER + "foo f (a, b); endmodule") == ["foo"]
    assert parse(long) == ("good", "")
    assert "include" in parse(f'`include "x.v"\n{GOOD}')[1]
    with pytest.raises(AssertionError, match="parsed in this process"):
        parse(GOOD)


def test_a_lone_surrogate_is_no_crash() -> None:
    assert parse(GOOD + "// \ud800\n")[0] == "good"

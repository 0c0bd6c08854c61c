"""What is taken from a completion."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itercli.verifiers.verilog_extract import extract
from itercli.verifiers.verilog_rules import refusal
from itercli.verifiers.verilog_text import ports, tokens

HEADER = "module top_module (\n\tinput a,\n\toutput b\n);\n"
BODY = "\tassign b = a;\nendmodule\n"
WHOLE = HEADER + BODY
HELPER = "module helper (input x); endmodule\n"
BENCH = "module top_module_tb; top_module t (); endmodule\n"

CASES = {
    "body": (BODY, WHOLE),
    "body after a blank line": ("\n" + BODY, HEADER + "\n" + BODY),
    "whole": (WHOLE, WHOLE),
    "prose around": (f"Here is the module you asked for:\n\n{WHOLE}\nIt copies a.", WHOLE),
    "fence": (f"Sure!\n```verilog\n{WHOLE}```\nDone.", WHOLE),
    "fence without end": (f"```\n{WHOLE}", WHOLE),
    "fence opened in the prompt": (f"{WHOLE}```\nThis module ...", WHOLE),
    "body in a fence": (f"```verilog\n{BODY}```", WHOLE),
    "second fence is a bench": (f"```verilog\n{WHOLE}```\nTest:\n```verilog\n{BENCH}```", WHOLE),
    "fence without code first": (f"```\n$ iverilog x\n```\n```verilog\n{WHOLE}```", WHOLE),
    "brackets": (f"[BEGIN]\n{WHOLE}[DONE]\nmodule x; endmodule", WHOLE),
    "brackets, body": (f"[BEGIN]{BODY}[DONE]", WHOLE),
    "only the end": (f"{WHOLE}[DONE]", WHOLE),
    "no stop, glued": (f"{WHOLE.strip()}module top_module (input c); endmodule", WHOLE),
    "no stop, again": (f"{WHOLE}\n{WHOLE}", WHOLE),
    "no stop after a body": (f"{BODY}\n{WHOLE}", WHOLE),
    "trailing bench": (WHOLE + BENCH, WHOLE),
    "trailing testbench": (WHOLE + "module testbench; endmodule\n", WHOLE),
    "trailing tb_module": (WHOLE + "module tb_module; endmodule\n", WHOLE),
    "helper stays": (WHOLE + HELPER, WHOLE + HELPER),
    "helper before stays": (HELPER + WHOLE, HELPER + WHOLE),
    "directives before stay": ("`timescale 1ns/1ps\n" + WHOLE, "`timescale 1ns/1ps\n" + WHOLE),
    "package before stays": ("package p; endpackage\n" + WHOLE, "package p; endpackage\n" + WHOLE),
    "cut off": (HEADER + "\tassign b =", HEADER + "\tassign b =\n"),
    "Windows line ends": (WHOLE.replace("\n", "\r\n"), WHOLE),
    "the word in a comment": (
        HEADER + "// endmodule comes later\n" + BODY,
        HEADER + "// endmodule comes later\n" + BODY,
    ),
    "empty": ("", ""),
    "blank": (" \n", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_extract(name: str) -> None:
    completion, code = CASES[name]
    assert extract(completion, HEADER) == code


def test_other_top_name() -> None:
    whole = WHOLE.replace("top_module", "TopModule")
    assert extract(whole + whole, HEADER.replace("top_module", "TopModule"), "TopModule") == whole


PIECES = [*'\n`\\"/*', "module ", "endmodule", "top_module", "(", ";", "```", "[BEGIN]", HEADER, BODY]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_handled(text: str) -> None:
    code = extract(text, HEADER)
    assert not code or code.endswith("\n")
    assert "".join(t.text for t in tokens(text)) == text
    refusal(code, top="top_module")


@given(
    st.lists(
        st.sampled_from(
            ["wire a;", "// note\n", "/* note */", '"text"', "x = 4'hf;", "\\esc ", "(* x *)", "\n"]
        )
    )
)
def test_a_forbidden_task_is_seen_behind_anything(before: list[str]) -> None:
    assert "$finish" in (refusal("".join(before) + " $finish;", top="top_module") or "")


def test_ports() -> None:
    header = (
        "module m #(parameter W = 4) (input clk, input [W-1:0] a, b, output reg signed [3:0] q, inout io);"
    )
    assert ports(header) == {"clk": "input", "a": "input", "b": "input", "q": "output", "io": "inout"}
    assert ports("module m;") == {}


def test_ports_of_the_data_set(shared_data) -> None:  # type: ignore[no-untyped-def]
    from itercli.data.verilogeval import VerilogEval

    for prompt in VerilogEval(path=Path(shared_data("verilogeval"))).prompts():
        found = ports(prompt.meta["header"])
        assert "output" in found.values(), prompt.meta["header"]
        assert len(found) == prompt.meta["header"].count(",") - prompt.meta["header"].count(",\n//") + 1, (
            prompt.id
        )

"""What only prints is taken out; nothing that a design computes changes."""

from __future__ import annotations

import pytest

from itercli.verifiers.verilog import VerilogVerifier
from itercli.verifiers.verilog_neutral import neutralised
from itercli.verifiers.verilog_rules import refusal
from tests.verifiers.benches import HEADER, prompt

RULE = "\talways @(posedge clk) out <= in + 4'd3;\n"
HONEST = {
    "a line at the start": 'initial $display("started");',
    "no arguments": "initial $display;",
    "in a clocked block": 'always @(posedge clk) begin $display("%b", in); $write(";"); end',
    "alone in always @*": 'always @* $display("%b", in);',
    "alone in always @(*) with a block": 'always @(*) begin : show $display("%b", in); end',
    "in a branch": 'always @(posedge clk) if (in == 3) $display("three"); else if (in) $strobe("%d", in);',
    "in a case": 'always @(posedge clk) case (in) 0: $display("0"); default: $display("other"); endcase',
    "monitor": 'initial $monitor("%t %b", $time, out);',
    "guarded dump": '`ifdef SIM\ninitial begin $dumpfile("w.vcd"); $dumpvars(0, top_module); end\n`endif',
    "unguarded dump": 'initial begin $dumpfile("w.vcd"); $dumpvars; end',
    "check of a parameter": 'parameter W = 4;\nif (W < 1) $error("W must be positive");',
    "check in a block": 'generate if (W < 1) begin : bad $fatal(1, "W"); end endgenerate\nlocalparam W = 4;',
    "check at the start": 'initial if (0) $fatal(1, "never");',
    "note at file level of the module": '$info("adds three");',
    "assertion": 'initial assert (1 > 0) else $error("no");',
    "warning in a loop": 'integer i; initial for (i = 0; i < 4; i = i + 1) $warning("%0d", i);',
    "over two lines": 'initial $display("a; b",\n  in, (in + 1));',
    "in a task": 'task show; begin $display("x"); end endtask',
    "end under a condition of parameters": 'parameter N = 4; initial if (N < 1) $finish;',
    "the same with a message": 'parameter N = 4; initial if (N < 1) begin $display("N"); $finish(1); end',
    "the same with a label": 'localparam N = $clog2(9); initial if (N > 9 || N == 0) begin : bad $stop; end',
    "a wire named tb": "wire tb = clk;",
    "a register named tb": "reg tb; always @(posedge clk) tb <= clk;",
    "a wire named like the reference": "wire reference_module; assign reference_module = clk;",
    "a string that looks like one": 'localparam S = "$finish; $display(1);";',
    "a comment that looks like one": '// $display("x"); $finish;\n/* $fatal; */',
}  # fmt: skip


@pytest.fixture(scope="module")
def verifier() -> VerilogVerifier:
    return VerilogVerifier()


@pytest.mark.parametrize("name", HONEST)
def test_honest_code_passes(verifier: VerilogVerifier, name: str) -> None:
    verdict = verifier.check(prompt(), f"{HEADER}\t{HONEST[name]}\n{RULE}endmodule\n")
    assert verdict.passed, verdict
    assert HONEST[name] in verdict.meta["answer"], "what is reported is what the model wrote"


@pytest.mark.parametrize("name", HONEST)
def test_the_design_is_still_judged(verifier: VerilogVerifier, name: str) -> None:
    verdict = verifier.check(prompt(), f"{HEADER}\t{HONEST[name]}\n{RULE.replace('3', '2')}endmodule\n")
    assert verdict.outcome == "mismatch", verdict


def test_lines_keep_their_numbers() -> None:
    code = 'module m;\ninitial $display("a",\n  "b");\nwire x = ;\nendmodule\n'
    assert neutralised(code).split("\n")[3] == "wire x = ;"


@pytest.mark.parametrize(
    "code",
    [
        "initial $finish;",
        "initial #1 $stop;",
        "initial if (a) $finish;",
        "parameter N = 1; initial if (N == 1 && a) $finish;",
        "parameter N = 1; initial begin if (N == 1) a = 1; $finish; end",
        "parameter N = 1; initial while (N == 1) $finish;",
        'initial $fdisplay(1, "x");',
        "$display(",
        'x = $display("x") + 1;',
        "`define P(x) $display(x)",
        "initial $system(1);",
        'initial $display("x" `ifdef A ); $finish; `endif );',
    ],
)
def test_what_does_more_is_left_to_be_refused(code: str) -> None:
    assert refusal(neutralised(code), top="m") is not None

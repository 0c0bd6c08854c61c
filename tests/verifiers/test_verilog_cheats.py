"""No way to pass a bench without solving its task."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.engine.sandbox import Limits
from itercli.verifiers import verilog
from itercli.verifiers.verilog import VerilogVerifier
from tests.verifiers.benches import BODY, HEADER, prompt

STUB = HEADER + "\t{}\nendmodule\n"
MISSES = "always @(posedge clk) out <= 0;"


def module(items: str, extra: str = "") -> str:
    return STUB.format(items) + extra


CHEATS = {
    "print and finish": module('initial begin $display("Mismatches: 0 in 50 samples"); $finish; end'),
    "print at the end": module(MISSES + ' final $display("Mismatches: 0 in 50 samples");'),
    "write": module(MISSES + r' final $write("Mismatches: 0 in 50 samples\n");'),
    "strobe": module(MISSES + ' initial $strobe("Mismatches: 0 in 50 samples");'),
    "monitor": module(MISSES + ' initial $monitor("Mismatches: 0 in 50 samples");'),
    "fatal": module(MISSES + ' initial $fatal(0, "Mismatches: 0 in 50 samples");'),
    "error": module(MISSES + ' initial $error("Mismatches: 0 in 50 samples");'),
    "stop": module(MISSES + " initial #1 $stop;"),
    "print in a function": module(
        'function [3:0] f(input [3:0] x); begin $display("Mismatches: 0 in 50 samples"); f = x; end '
        "endfunction "
        "always @(posedge clk) out <= f(in);"
    ),
    "assert": module(MISSES + ' initial assert (0) else $display("Mismatches: 0 in 50 samples");'),
    "reference": module("reference_module r (.clk(clk), .in(in), .out(out));").replace(
        "output reg", "output"
    ),
    "escaped reference": module(r"\reference_module  r (.clk(clk), .in(in), .out(out));").replace(
        "output reg", "output"
    ),
    "macro reference": "`define R reference_module\n"
    + module("`R r (.clk(clk), .in(in), .out(out));").replace("output reg", "output"),
    "pasted reference": "`define R(x) reference``x\n"
    + module("`R(_module) r (.clk(clk), .in(in), .out(out));").replace("output reg", "output"),
    "glued reference": "`define R _module\n"
    + module("reference`R r (.clk(clk), .in(in), .out(out));").replace("output reg", "output"),
    "glued task": "`define F finish\n" + module(MISSES + " initial #1 $`F;"),
    "pasted task": "`define F(x) $fin``x\n" + module(MISSES + " initial #1 `F(ish);"),
    "dollar macro": "`define D(x) x\n" + module(MISSES + " initial #1 `D($)finish;"),
    "sibling": module("always @* out = good1.out;"),
    "bench by path": module("always @* out = tb.good1.out;"),
    "bench signal": module("always @* out = tb.out_ref;"),
    "root": module("always @* out = $root.tb.out_ref;"),
    "unit": module("always @* out = $unit::out_ref;"),
    "upward": module("always @* out = out_ref;"),
    "escaped path": module(r"always @* out = \tb .out_ref;"),
    "write statistics": module(MISSES + " always @(posedge clk) tb.stats1.errors = 0;"),
    "write statistics, escaped": module(MISSES + r" always @(posedge clk) \tb .\stats1 .errors = 0;"),
    "final statistics": module(MISSES + " final tb.stats1 = 0;"),
    "force statistics": module(MISSES + " initial force tb.stats1.errors = 0;"),
    "force inputs": module(MISSES + " initial force in = 4'bx;"),
    "force clock": module(MISSES + " initial force clk = 0;"),
    "force match": module(MISSES + " initial force tb.tb_match = 1;"),
    "drive inputs": module(MISSES + " assign in = 4'bx;"),
    "drive inputs from a gate": module(MISSES + " buf (in[0], 1'bx); buf (in[1], 1'bx); buf (in[2], 1'bx);"),
    "drive inputs from below": module(
        MISSES + " sub s (in);", "module sub(inout [3:0] x); assign x = 4'bx; endmodule\n"
    ),
    "short inputs": module(MISSES + " tran (in[0], in[1]); tran (in[1], in[2]); tran (in[2], in[3]);"),
    "inputs as inout": module(MISSES + " assign in = 4'bx;").replace("input [3:0]", "inout [3:0]"),
    "inputs as outputs": module(MISSES + " assign in = 4'bx;").replace("input [3:0]", "output [3:0]"),
    "inputs joined": "module top_module(clk, .in({a, b}), out); input clk; inout [1:0] a, b; "
    "output reg [3:0] out;\n" + MISSES + " assign a = 2'bx; assign b = 2'bx; endmodule\n",
    "own reference": module(
        MISSES,
        "module reference_module(input clk, input [3:0] in, output reg [3:0] out); "
        "always @(posedge clk) out <= 0; endmodule\n",
    ),
    "own stimulus": module(
        MISSES,
        "module stimulus_gen(input clk, output logic [3:0] in); initial begin #1000 $finish; end endmodule\n",
    ),
    "own bench": module(MISSES, 'module tb; initial $display("Mismatches: 0 in 50 samples"); endmodule\n'),
    "own bench, quiet": module(MISSES, "module tb; endmodule\n"),
    "bind": module(MISSES, "bind tb top_module x (.clk(clk), .in(in), .out(out_dut));\n"),
    "bind to a module type": module(
        MISSES, "module cheat; initial stats1.errors = 0; endmodule\nbind tb cheat c ();\n"
    ),
    "defparam": module(MISSES + " defparam tb.good1.x = 1;"),
    "program": module(MISSES, "program p; initial begin end endprogram\n"),
    "import": module(MISSES + ' import "DPI-C" function void exit(int x); initial exit(0);'),
    "random": module(MISSES + " initial repeat (1000) void'($random);"),
    "random as statement": module(
        MISSES + " integer i; initial for (i = 0; i < 1000; i = i + 1) i = i + 0 * $random;"
    ),
    "redefine a keyword": "`define always initial\n" + module(MISSES),
    "redefine a task": "`define include `define\n" + module(MISSES),
    "include": '`include "/etc/passwd"\n' + module(MISSES),
    "line": '`line 1 "bench.sv" 0\n' + module(MISSES + " initial #1 $finish;"),
    "comment that a tool ends early": module(MISSES + " // \r initial #1 $finish;\n"),
    "string that a tool ends early": module(
        MISSES + ' wire [7:0] s = "a\n"; initial #1 $finish; wire [7:0] t = "b";'
    ),
    "escaped quote": module(MISSES + ' wire \\a" ; initial #1 $finish; wire \\b" ;'),
    "escaped comment": module(MISSES + " wire \\/* ; initial #1 $finish; wire \\*/ ;"),
    "continued comment": "`define X // \\\n initial #1 $finish;\n" + module(MISSES + " `X"),
    "control character": module(MISSES + " initial #1 \x00$finish;"),
    "undriven": module("always @* out = 4'bx;"),
    "high impedance": module("always @* out = 4'bz;"),
    "end early": module(MISSES + " initial #1 $finish_and_return(0);"),
    "exit": module(MISSES + " initial #1 $exit;"),
}


# Around what is taken out instead of refused, and around names that are refused only where they reach.
CHEATS |= {
    "print, split by a comment": module(MISSES + ' final $display /* ; */ ("Mismatches: 0 in 50 samples");'),
    "print in a macro": '`define P $display("Mismatches: 0 in 50 samples");\n' + module(MISSES + " final `P"),
    "print by a macro with arguments": "`define P(x) $display(x)\n"
    + module(MISSES + ' final `P("Mismatches: 0 in 50 samples");'),
    "task name from what is taken out": module(MISSES + ' initial #1 $fin$display("x"); ish;'),
    "end behind a print": module(MISSES + ' initial begin #1 $display("x"); $finish; end'),
    "end in a print's arguments": module(MISSES + ' initial $display("%d", $finish);'),
    "write by a print's arguments": module(
        MISSES + ' always @(posedge clk) $display("%d", tb.stats1.errors = 0);'
    ),
    "print to a file": module(MISSES + ' final $fdisplay(1, "Mismatches: 0 in 50 samples");'),
    "print to standard output": module(
        MISSES + ' final $fwrite(32\'h80000001, "Mismatches: 0 in 50 samples\\n");'
    ),
    "open a file": module(MISSES + ' integer f; initial f = $fopen("bench.sv", "r");'),
    "read a file": module(MISSES + ' reg [7:0] m [0:9]; initial $readmemh("bench.sv", m);'),
    "dump to the bench": module(MISSES + ' initial begin $dumpfile("bench.sv"); $dumpvars; end'),
    "limit of the dump": module(MISSES + " initial $dumplimit(0);"),
    "end by a parameter": module(MISSES + " parameter P = 1; initial if (P) $finish;"),
    "end by a parameter, later": module(MISSES + " parameter P = 1; initial #20 if (P) begin $finish; end"),
    "body taken out": module('always @(posedge clk) $display("%d", out); always @* out = 0;'),
    "wire of the bench's name, and a path": module(MISSES + " wire tb = tb.good1.out;"),
    "instance of the bench's name": module(MISSES + " wire tb; tb u ();"),
    "reference in brackets": module(MISSES + " wire [3:0] reference_module = good1.out;"),
    "reference as a parameter's type": module(MISSES + " reference_module #(4) r (clk, in, out);"),
    "verdict of its own": module(
        MISSES, 'module x; initial $display("Mismatches: 0 in 50 samples"); endmodule\n'
    ),
    "loop at time zero": module("always @* begin out = in; while (1) out = out; end"),
    "clock of its own": module(MISSES + " reg c = 0; always #1 c = ~c;"),
}


@pytest.fixture(scope="module")
def verifier() -> VerilogVerifier:
    return VerilogVerifier()


@pytest.mark.parametrize("wire", ["logic", "wire"])
@pytest.mark.parametrize("name", CHEATS)
def test_cheat_fails(verifier: VerilogVerifier, name: str, wire: str) -> None:
    verdict = verifier.check(prompt(wire), CHEATS[name])
    assert not verdict.passed, verdict


@pytest.mark.parametrize("wire", ["logic", "wire"])
@pytest.mark.parametrize("name", CHEATS)
def test_cheat_fails_without_the_scanner(name: str, wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scanner may misread a trick; what the compiler made of it must give it away."""
    monkeypatch.setattr(verilog, "refusal", lambda *args, **kwargs: None)
    monkeypatch.setattr(verilog, "neutralised", lambda code: code)
    for reference in (True, False):
        task = prompt(wire, reference) if reference else prompt(wire, reference, samples=50)
        verdict = VerilogVerifier(limits=Limits(wall=2)).check(task, CHEATS[name])
        assert not verdict.passed, verdict


@pytest.mark.parametrize("wire", ["logic", "wire"])
def test_honest_code_passes(verifier: VerilogVerifier, wire: str) -> None:
    honest = HEADER.replace("output reg", "output") + (
        "\tlocalparam N = $clog2(16);\n\twire [N-1:0] next; // says $display, tb. and reference_module\n"
        '\tadd3 #(.W(N)) add (.in, .out(next));\n\treg [3:0] \\state[0] = "s" == 0;\n'
        "\talways @(posedge clk) \\state[0] <= next;\n\tassign out = \\state[0] ;\nendmodule\n"
        "`define THREE 3\nmodule add3 #(parameter W = 4) (input [W-1:0] in, output [W-1:0] out);\n"
        "\ttypedef struct packed { logic [3:0] v; } word;\n\tword w;\n\tassign w.v = in + `THREE;\n"
        "\tassign out = $unsigned(w.v);\nendmodule\n"
    )
    verdict = verifier.check(prompt(wire), honest)
    assert verdict.passed, verdict


def test_sample_count_must_be_the_references(verifier: VerilogVerifier) -> None:
    assert verifier.check(prompt(), BODY).meta["samples"] == 50
    wrong = verifier.check(prompt(reference=False, samples=49), BODY)
    assert (wrong.outcome, wrong.passed) == ("no_result", False)


def test_names_are_new_each_time_and_never_shown(verifier: VerilogVerifier) -> None:
    seen = []
    simulator = verifier.simulator

    class Spy:
        def version(self) -> str:
            return simulator.version()

        def run(self, bench: str, code: str, root: str, *rest: object):  # type: ignore[no-untyped-def]
            seen.append(root)
            return simulator.run(bench, code, root, *rest)  # type: ignore[arg-type]

    spied = VerilogVerifier(Spy())  # type: ignore[arg-type]
    for n in range(2):
        verdict = spied.check(prompt(), module(f"always @* out = nothing{n}.x;"))
        assert "$" not in verdict.message
        assert verdict.outcome == "unbound_name"
    assert len(set(seen)) == 3
    assert all(root.startswith("tb$") for root in seen)


def test_files_of_the_host_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilog, "refusal", lambda *args, **kwargs: None)
    from itercli.engine import sandbox

    if sandbox.isolation() != "namespaces":
        pytest.skip(sandbox.isolation_reason())
    target = tmp_path / "written"
    (tmp_path / "secret.txt").write_text("module leaked; endmodule x7secret")
    tmp_path.chmod(0o777)
    tmp_path.parent.chmod(0o755)
    items = f'integer f; initial begin f = $fopen("{target}", "w"); $fwrite(f, "x"); end'
    code = f'`include "{tmp_path}/secret.txt"\n' + module(MISSES + items)
    verdict = VerilogVerifier().check(prompt(), code)
    assert not verdict.passed
    assert not target.exists()
    assert "x7secret" not in verdict.message

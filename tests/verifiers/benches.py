"""Small benches in VerilogEval's style, written for these tests."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from itercli.records import Message, Prompt
from itercli.verifiers.verilog import VerilogVerifier

HEADER = "module top_module (\n\tinput clk,\n\tinput [3:0] in,\n\toutput reg [3:0] out\n);\n"
BODY = "\talways @(posedge clk) out <= in + 4'd3;\nendmodule\n"
RIGHT = HEADER + BODY
WRONG = HEADER + "\talways @(posedge clk) out <= in + 4'd2;\nendmodule\n"

BENCH = """`timescale 1 ps/1 ps
`define OK 12
module reference_module (input clk, input [3:0] in, output reg [3:0] out);
	always @(posedge clk) out <= in + 4'd3;
endmodule

module stimulus_gen (input clk, output logic [3:0] in);
	initial begin
		repeat(50) @(posedge clk, negedge clk) in <= $random;
		$finish;
	end
endmodule

module tb();
	typedef struct packed { int errors; int errortime; int clocks; } stats;
	stats stats1;
	reg clk=0;
	initial forever #5 clk = ~clk;
	WIRE [3:0] in;
	logic [3:0] out_ref;
	logic [3:0] out_dut;
	initial begin
		$dumpfile("wave.vcd");
		$dumpvars(1, stim1.clk, in, out_ref, out_dut);
	end
	wire tb_match;
	stimulus_gen stim1 (.clk, .*, .in);
	reference_module good1 (.clk, .in, .out(out_ref));
	top_module top_module1 (.clk, .in, .out(out_dut));
	final begin
		if (stats1.errors) $display("Hint: Output '%s' has %0d mismatches.", "out", stats1.errors);
		$display("Mismatches: %1d in %1d samples", stats1.errors, stats1.clocks);
	end
	assign tb_match = ({out_ref} === ({out_ref} ^ {out_dut} ^ {out_ref}));
	always @(posedge clk, negedge clk) begin
		stats1.clocks++;
		if (!tb_match) stats1.errors++;
	end
endmodule
"""


def prompt(wire: str = "logic", reference: bool = True, **meta: Any) -> Prompt:
    """A prompt with the bench; `wire` is the kind of the bench's input signal."""
    return Prompt(
        id="own/add3",
        messages=[Message(role="user", content=f"Add three.\n{HEADER}")],
        reference=RIGHT if reference else None,
        meta={"header": HEADER, "bench": BENCH.replace("WIRE", wire), "top": "top_module",
              "reference_name": "reference_module", **meta},
    )  # fmt: skip


def failing(prompts: Iterable[Prompt]) -> list[tuple[str, str]]:
    """Ids of the prompts whose own reference fails, with the outcome."""
    verifier = VerilogVerifier()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda p: (p.id, verifier.check(p, p.reference or "").outcome), prompts))
    return [(name, outcome) for name, outcome in found if outcome != "pass"]

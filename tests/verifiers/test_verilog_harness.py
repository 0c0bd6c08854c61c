"""Order, limits and verdict of each suite's own harness, and the contract of own benches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itercli.preflight import problems as found_by_plan
from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check
from itercli.records import Prompt
from itercli.verifiers.verilog import Functional, NoBench, VerilogVerifier
from itercli.verifiers.verilog_harness import HARNESSES
from itercli.verifiers.verilog_task import Task, problem
from tests.verifiers.benches import BENCH, HEADER, RIGHT, WRONG, prompt

DELAYED = HEADER + "\talways @(posedge clk) out <= #1 in + 4'd3;\nendmodule\n"
# Reports by a line of its own, reads its vectors from a file, waits for the design.
OWN_BENCH = """`timescale 1ns/1ns
module check_add;
  reg clk = 0; reg [3:0] in; wire [3:0] out; reg [7:0] v [0:1]; integer i, bad = 0;
  top_module dut (.clk(clk), .in(in), .out(out));
  always #5 clk = ~clk;
  initial begin
    $readmemh("vectors.hex", v);
    for (i = 0; i < 2; i = i + 1) begin
      in = v[i][7:4]; @(negedge clk); @(negedge clk);
      if (out !== v[i][3:0]) bad = bad + 1;
    end
    wait (out !== 4'd1);
    if (bad == 0) $display("All vectors agree."); else $display("%0d vectors differ.", bad);
    $finish;
  end
endmodule
"""


def own(**meta: Any) -> Prompt:
    given = {"bench": OWN_BENCH, "top": "top_module", "pass_line": "All vectors agree.",
             "files": {"vectors.hex": "14 7a\n"}}  # fmt: skip
    return Prompt(id="own/line", messages=[], reference=RIGHT, meta={**given, **meta})


@pytest.fixture(scope="module")
def verifier() -> VerilogVerifier:
    return VerilogVerifier()


def test_order_of_compilation(verifier: VerilogVerifier) -> None:
    """A sample that comes first has no `timescale: its delay is a second, and the bench is over by then."""
    assert verifier.check(prompt(harness="verilogeval-v1"), DELAYED).passed
    assert verifier.check(prompt(harness="verilogeval-v2"), DELAYED).outcome == "mismatch"
    assert verifier.check(prompt(harness="verilogeval-v2"), "`timescale 1ps/1ps\n" + DELAYED).passed
    assert verifier.check(prompt(harness="verilogeval-v2"), RIGHT).passed


def test_a_bench_that_comes_later_keeps_its_macros(verifier: VerilogVerifier) -> None:
    bench = BENCH.replace("WIRE", "logic").replace("initial forever", "`ifndef QUIET\n\tinitial forever")
    bench = bench.replace("clk = ~clk;", "clk = ~clk;\n`endif", 1)
    task = prompt(harness="verilogeval-v2", bench=bench)
    assert verifier.check(task, RIGHT).passed
    verdict = verifier.check(task, "`define QUIET\n" + RIGHT)
    assert (verdict.outcome, "QUIET" in verdict.message) == ("refused", True)


def test_warnings(verifier: VerilogVerifier) -> None:
    narrow = HEADER.replace("[3:0] in", "[2:0] in") + "\talways @(posedge clk) out <= in + 4'd3;\nendmodule\n"
    assert verifier.check(prompt(harness="verilogeval-v1"), narrow).outcome == "compile"
    assert verifier.check(prompt(harness="verilogeval-v2"), narrow).outcome == "mismatch"


def test_own_line_and_files(verifier: VerilogVerifier) -> None:
    assert verifier.check(own(), RIGHT).passed
    wrong = verifier.check(own(), WRONG)
    assert (wrong.outcome, "2 vectors differ" in wrong.message) == ("mismatch", True)
    assert not verifier.check(own(files={"vectors.hex": "15 7a\n"}), RIGHT).passed
    assert verifier.check(own(harness="rtllm"), RIGHT).passed


@pytest.mark.parametrize("harness", ["own", "rtllm"])
def test_own_line_cannot_be_forged(harness: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from itercli.verifiers import verilog

    monkeypatch.setattr(verilog, "refusal", lambda *args, **kwargs: None)
    monkeypatch.setattr(verilog, "neutralised", lambda code: code)
    monkeypatch.setattr(verilog, "smuggled", lambda *args: None)
    forged = WRONG.replace("endmodule", 'initial $display("All vectors agree.");\nendmodule')
    task = own(harness=harness)
    assert VerilogVerifier().check(task, RIGHT).passed
    assert VerilogVerifier().check(task, forged).outcome == "mismatch"


def test_a_module_that_does_nothing_passes_no_line(verifier: VerilogVerifier) -> None:
    lax = own(bench=OWN_BENCH.replace("!== v[i]", "!= v[i]").replace("!== 4'd1", "!= 4'd1 || 1"))
    assert verifier.check(lax, RIGHT).passed
    assert not verifier.check(lax, HEADER + "endmodule\n").passed


def test_simulated_time_is_limited() -> None:
    """A design that the bench waits for in vain costs no wall clock."""
    stuck = HEADER.replace("output reg", "output") + "\tassign out = 4'd1;\nendmodule\n"
    verdict = VerilogVerifier().check(own(sim_time=100_000), stuck)
    assert verdict.outcome == "timeout"
    assert "100000 time units" in verdict.message
    assert VerilogVerifier(sim_time=5000).check(own(), stuck).message.startswith("no end after 5000")
    assert VerilogVerifier(sim_time=5000).check(own(), RIGHT).passed


def test_cpu_time_is_limited() -> None:
    endless = HEADER + "\tinitial begin out = 0; while (1) out = out + 1; end\nendmodule\n"
    verdict = VerilogVerifier(cpu_seconds=1).check(prompt(), endless)
    assert (verdict.outcome, verdict.message.startswith("ended by cpu-time")) == ("timeout", True)


def test_suites_have_budgets_and_options_override_them() -> None:
    assert all(h.cpu_seconds <= 10 for h in HARNESSES.values())
    judge = Functional(cpu_seconds=3, sim_time=7, timeout=5).open()
    task = Task.of(prompt(harness="verilogeval-v2"))
    limits = judge.verifier._limits(task, judge.verifier._expectation(task))
    assert (limits.cpu, limits.wall, judge.verifier._sim_time(task)) == (3, 5, 7)


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"bench": None}, "has no test bench"),
        ({"bench": 3}, "meta['bench'] is 3; it must be text"),
        ({"harness": "vcs"}, "must be one of own, verilogeval-v1"),
        ({"files": {"../x": "1"}}, "'../x'"),
        ({"files": {"x.hex": 1}}, "'x.hex'"),
        ({"files": ["x"]}, "a mapping"),
        ({"samples": "50"}, "a whole number"),
        ({"samples": True}, "a whole number"),
        ({"samples": 0}, "a whole number"),
        ({"top": "adder"}, "does not instantiate 'adder'"),
    ],
)
def test_what_breaks_the_contract_is_said(meta: dict[str, Any], words: str) -> None:
    task = own(**meta)
    assert words in (problem(task) or "")
    with pytest.raises(NoBench, match="own/line"):
        Task.of(task)


def test_contract_is_kept() -> None:
    assert problem(own()) is None
    assert problem(prompt()) is None


def test_a_plan_says_which_prompt_breaks_the_contract(tmp_path: Path) -> None:
    rows = tmp_path / "own.jsonl"

    def problems(meta: dict[str, Any], *overrides: str) -> str:
        row = {
            "id": "x",
            "messages": [{"role": "user", "content": "Invert a."}],
            "reference": RIGHT,
            "meta": meta,
        }
        rows.write_text(json.dumps(row))
        train = f"data.train={{name: jsonl, path: {rows}}}"
        composed = compose_recipe(["recipe=itertl", train, *overrides])
        plan = build_plan(check(composed.raw, base=tmp_path, locate=composed.locate), provisional=True)
        return "\n".join(str(p) for p in found_by_plan(plan, deep=False))

    assert "needs meta.bench" in problems({})
    assert "does not instantiate 'top_module'" in problems({"bench": "module tb; endmodule"})
    assert "must be text" in problems({"bench": OWN_BENCH, "top": 3})
    assert "bench" not in problems({"bench": OWN_BENCH})
    off = ("loop.score.scorer.verify=false", "loop.score.scorer.score_rule=quality")
    assert "bench" not in problems({}, *off)

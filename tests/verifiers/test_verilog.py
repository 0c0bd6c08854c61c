"""Verdicts: classes, data sets, limits, cache, the scorer."""

from __future__ import annotations

import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from itercli.data.verilogeval import VerilogEval
from itercli.engine.sandbox import Limits
from itercli.records import Prompt, Trajectory
from itercli.verifiers.passk import mean_pass_at_k
from itercli.verifiers.verilog import Functional, VerilogVerifier
from itercli.verifiers.verilog_outcomes import CODES, classify_log, counts
from itercli.verifiers.verilog_tools import Icarus, Svling, ToolMissing, find_icarus
from tests.verifiers.benches import BODY, HEADER, RIGHT, WRONG, failing, prompt

OUTCOMES = {
    "pass": BODY,
    "mismatch": WRONG,
    "syntax": HEADER + "\talways @(posedge clk) out <= in +;\nendmodule\n",
    "empty": "",
    "refused": HEADER + "\tinitial $finish;\nendmodule\n",
    "unknown_module": HEADER + "\tfoo f (in);\nendmodule\n",
    "unbound_name": HEADER + "\talways @(posedge clk) out <= nothing;\nendmodule\n",
    "unbound_clk": "module top_module (input [3:0] in, output reg [3:0] out);\n"
    "\talways @(posedge clk) out <= in;\nendmodule\n",
    "assigned_wire": HEADER.replace("output reg", "output")
    + "\talways @(posedge clk) out <= in;\nendmodule\n",
    "zero_size": HEADER + "\talways @(posedge clk) out <= 0'b0;\nendmodule\n",
    "no_sensitivity": HEADER + "\talways @(*) out = 4'd1;\nendmodule\n",
    "explicit_cast": HEADER + "\ttypedef enum logic [1:0] {A, B} state; state s;\n"
    "\talways @(posedge clk) begin s = in; out <= s; end\nendmodule\n",
    "compile": HEADER + "\treg twice;\n\treg twice;\nendmodule\n",
    "mismatch_reset": HEADER
    + "\twire reset = in[0];\n\talways @(posedge clk, posedge reset) out <= in;\nendmodule\n",
}


@pytest.fixture(scope="module")
def verifier() -> VerilogVerifier:
    return VerilogVerifier()


@pytest.fixture
def machine(shared_data) -> list[Prompt]:  # type: ignore[no-untyped-def]
    return list(VerilogEval(path=Path(shared_data("verilogeval"))).prompts())


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcomes(verifier: VerilogVerifier, outcome: str) -> None:
    verdict = verifier.check(prompt(), OUTCOMES[outcome])
    assert verdict.outcome == outcome, verdict
    assert verdict.meta["code"] == CODES[outcome]
    assert verdict.passed == (outcome == "pass")


def test_counts_takes_the_last_line() -> None:
    assert counts("Mismatches: 0 in 5 samples\nMismatches: 3 in 9 samples\n") == (3, 9)
    assert counts("say Mismatches: 0 in 5 samples\n") is None


def test_error_in_a_name_is_no_error() -> None:
    log = "x.sv:1: warning: signal error_flag has no driver\n"
    assert classify_log(log, compiled=True) is None
    assert classify_log(log) == "compile"


def test_warnings_fail_as_in_v1(verifier: VerilogVerifier) -> None:
    narrow = HEADER.replace("[3:0] in", "[2:0] in") + "\talways @(posedge clk) out <= in + 4'd3;\nendmodule\n"
    assert verifier.check(prompt(warnings_fail=True), narrow).outcome == "compile"
    assert verifier.check(prompt(), narrow).outcome == "mismatch"
    assert verifier.check(prompt(warnings_fail=True), RIGHT).passed


@pytest.mark.slow
def test_all_references_pass(machine: list[Prompt]) -> None:
    assert len(machine) == 143
    assert failing(machine) == []


def test_references_as_bodies_pass(verifier: VerilogVerifier, machine: list[Prompt]) -> None:
    for task in machine[:10]:
        body = (task.reference or "").removeprefix(task.meta["header"])
        assert verifier.check(task, body).passed, task.id


MUTATIONS = [(r" & ", " | "), (r" \| ", " & "), (r" \^ ", " & "), (r"~", ""), (r"\+", "-"), (r"1'b0", "1'b1"),
             (r"\? (\w+) : (\w+)", r"? \2 : \1"), (r"== ", "!= "),
             (r"<= (\w+);", r"<= ~\1;"), (r"= (\w+);", r"= ~\1;")]  # fmt: skip


@pytest.mark.slow
def test_mutated_references_fail(verifier: VerilogVerifier, machine: list[Prompt]) -> None:
    mutants = []
    for task in machine:
        header = task.meta["header"]
        body = (task.reference or "").removeprefix(header)
        changed = next((m for a, b in MUTATIONS if (m := re.sub(a, b, body, count=1)) != body), None)
        if changed is not None:
            mutants.append((task, header + changed))
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda m: verifier.check(*m), mutants))
    passed = [task.id for (task, _), v in zip(mutants, verdicts, strict=True) if v.passed]
    assert len(mutants) > 120
    assert len(passed) < 0.1 * len(mutants), passed


def test_example_scores_half(verifier: VerilogVerifier, shared_data) -> None:  # type: ignore[no-untyped-def]
    folder = Path(shared_data("verilogeval"))
    tasks = {p.meta["task"]: p for p in VerilogEval(path=folder / "ExampleEval.jsonl").prompts()}
    assert len(tasks) == 3
    results: dict[str, list[bool]] = {}
    for line in (folder / "ExampleSolution.jsonl").read_text().splitlines():
        row = json.loads(line)
        verdict = verifier.check(tasks[row["task_id"]], row["completion"])
        results.setdefault(row["task_id"], []).append(verdict.passed)
    assert mean_pass_at_k(results, 1) == 0.5


HOSTILE = {
    "endless loop": "initial begin out = 0; while (1) out = out + 1; end",
    "endless loop in a function": "function [3:0] f(input [3:0] x); begin f = x; while (1) f = f + 1; end "
    "endfunction "
    "always @* out = f(in);",
    "zero-delay oscillation": "reg r = 0; always @(r) r <= #0 ~r; always @* out = r;",
    "huge memory": "reg [1023:0] m [0:1073741823]; always @* out = m[in];",
    "growing queue": "integer q[$]; initial while (1) q.push_back(1);",
    "generate bomb": "genvar i; generate for (i = 0; i < 9999999; i++) begin : g wire w; end endgenerate",
    "deep expression": "always @* out = " + "(" * 20000 + "in" + ")" * 20000 + ";",
    "recursion": "function automatic int f(input int x); f = f(x + 1); endfunction initial out = f(0);",
    "many threads": "initial while (1) fork #1; join_none",
    "wide": "wire [99999999:0] w = {100000000{in[0]}}; always @* out = w[3:0];",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HOSTILE, "macro bomb"])
def test_hostile_code_is_contained(name: str) -> None:
    if name == "macro bomb":
        bomb = "`define A0 in\n" + "".join(f"`define A{i + 1} `A{i} + `A{i}\n" for i in range(40))
        code = bomb + HEADER + "\talways @* out = `A40;\nendmodule\n"
    else:
        code = f"{HEADER}\t{HOSTILE[name]}\nendmodule\n"
    checker = VerilogVerifier(limits=Limits(wall=4, cpu=5))
    verdict = checker.check(prompt(), code)
    assert not verdict.passed
    assert verdict.seconds < 8
    assert len(verdict.message) < 2000
    assert checker.check(prompt(), RIGHT).passed


def test_same_code_is_checked_once() -> None:
    verifier = VerilogVerifier()
    runs = []
    inner = verifier.simulator
    gate = threading.Event()

    class Counting:
        def version(self) -> str:
            return inner.version()

        def run(self, *args):  # type: ignore[no-untyped-def]
            runs.append(args[1])
            gate.wait(5)
            return inner.run(*args)

    verifier.simulator = Counting()  # type: ignore[assignment]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(verifier.check, prompt(), RIGHT) for _ in range(8)]
        gate.set()
        verdicts = [f.result() for f in futures]
    assert all(v.passed for v in verdicts)
    assert sum(not v.meta["cached"] for v in verdicts) == 1
    assert len(runs) == 2  # the reference's run and the candidate's
    verifier.check(prompt(), f"Here:\n{RIGHT}")
    assert len(runs) == 2


def test_a_failed_check_is_tried_again() -> None:
    verifier = VerilogVerifier()
    good = verifier.simulator

    class Broken:
        def run(self, *args):  # type: ignore[no-untyped-def]
            raise OSError("broken")

    verifier.simulator = Broken()  # type: ignore[assignment]
    with pytest.raises(OSError, match="broken"):
        verifier.check(prompt(), RIGHT)
    verifier.simulator = good
    assert verifier.check(prompt(), RIGHT).passed


def trajectory(completion: str) -> Trajectory:
    return Trajectory(
        prompt_id="own/add3",
        index=3,
        seed=1,
        completion=completion,
        finish="stop",
        tokens=5,
        policy="policy@1",
    )


def test_scorer() -> None:
    judge = Functional().open()
    row = judge.score(prompt(), trajectory(BODY))
    assert (row.value, row.passed, row.outcome, row.answer) == (1.0, True, "pass", RIGHT)
    assert (row.prompt_id, row.index, row.policy, row.completion) == ("own/add3", 3, "policy@1", BODY)
    assert row.meta == {"code": ".", "mismatches": 0, "samples": 50}
    wrong = judge.score(prompt(), trajectory(WRONG))
    assert (wrong.value, wrong.passed, wrong.outcome) == (0.0, False, "mismatch")
    assert judge.score(prompt(), trajectory(WRONG)) == wrong
    judge.close()


def test_scorer_options() -> None:
    half = HEADER + "\talways @(posedge clk) out <= (in > 4) ? in + 4'd3 : 4'd0;\nendmodule\n"
    row = Functional(partial_credit=True, timings=True).open().score(prompt(), trajectory(half))
    assert 0 < row.value < 1
    assert row.value == 1 - row.meta["mismatches"] / 50
    assert {"seconds", "cached"} <= row.meta.keys()
    assert Functional().fingerprint()["simulator"].startswith("Icarus Verilog version")
    with pytest.raises(ValueError, match="svling_python"):
        Functional(simulator="svling").open()


def test_svling() -> None:
    python = os.environ.get("ITER_TEST_SVLING")
    if not python:
        pytest.skip("ITER_TEST_SVLING does not name an interpreter with svling")
    verifier = VerilogVerifier(Svling(python))
    right, wrong = verifier.check(prompt(warnings_fail=True), RIGHT), verifier.check(prompt(), WRONG)
    assert (right.outcome, wrong.outcome) == ("pass", "mismatch"), (right, wrong)
    assert right.meta["samples"] == 50
    assert not verifier.check(prompt(), HEADER + "\talways @* out = good1.out;\nendmodule\n").passed
    assert (
        Functional(simulator="svling", svling_python=python).fingerprint()["simulator"].startswith("svling")
    )


def test_prompt_without_bench() -> None:
    task = Prompt(id="x/1", messages=[], meta={})
    with pytest.raises(ValueError, match="x/1"):
        Functional().open().score(task, trajectory(BODY))


def test_bad_references() -> None:
    bad = prompt().model_copy(update={"reference": WRONG, "id": "own/bad"})
    assert failing([prompt(), bad]) == [("own/bad", "mismatch")]
    # Candidates are still judged by what the bench reports.
    assert VerilogVerifier().check(bad, RIGHT).passed


def test_bench_that_does_not_stand_renaming() -> None:
    task = prompt()
    bench = task.meta["bench"].replace("stats1.clocks++;", "`BUMP(clocks)")
    bench = "`define BUMP(f) stats1.``f++;\n" + bench.replace(
        "struct packed { int", "struct packed { int spare; int"
    )
    odd = task.model_copy(update={"meta": {**task.meta, "bench": bench}})
    verifier = VerilogVerifier()
    assert verifier.check(odd, RIGHT).passed
    assert not verifier.check(odd, WRONG).passed


def test_icarus_is_found_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_icarus()
    library = next(iter(Path("/usr/lib").glob("*/ivl")), None)
    if library is None or real.ivl_dir:
        pytest.skip("needs the system's Icarus")
    root = tmp_path / ".tools"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/lib/x").mkdir(parents=True)
    import shutil

    shutil.copytree(library, root / "usr/lib/x/ivl")
    for name in ("iverilog", "vvp"):
        shutil.copy(f"/usr/bin/{name}", root / "usr/bin" / name)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("ITER_TOOLS", raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(ToolMissing, match="apt-get"):
        find_icarus()
    for found in (by_env(root, monkeypatch), by_folder(tmp_path, monkeypatch)):
        assert found == Icarus(str(root / "usr/bin/iverilog"), str(root / "usr/bin/vvp"),
                               str(root / "usr/lib/x/ivl"), (str(root),))  # fmt: skip
        assert VerilogVerifier(found).check(prompt(), RIGHT).passed


def by_env(root: Path, monkeypatch: pytest.MonkeyPatch) -> Icarus:
    monkeypatch.setenv("ITER_TOOLS", str(root))
    found = find_icarus()
    monkeypatch.delenv("ITER_TOOLS")
    return found


def by_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Icarus:
    monkeypatch.chdir(folder)
    return find_icarus()

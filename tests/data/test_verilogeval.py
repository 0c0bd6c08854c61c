"""VerilogEval v1 from its files, v2 from folders made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from itercli.data.base import DataError
from itercli.data.verilogeval import VerilogEval
from itercli.verifiers.verilog import VerilogVerifier
from tests.verifiers.benches import failing

REFERENCE = "module RefModule (\n  input a,\n  output b\n);\n\n  assign b = ~a;\n\nendmodule\n\n"
BENCH = """`timescale 1 ps/1 ps
module stimulus_gen (input clk, output logic a);
  initial begin
    repeat (20) @(posedge clk, negedge clk) a <= $random;
    $finish;
  end
endmodule
module tb();
  int errors = 0, clocks = 0;
  reg clk = 0;
  initial forever #5 clk = ~clk;
  logic a, b_ref, b_dut;
  stimulus_gen stim1 (.clk, .a);
  RefModule good1 (.a, .b(b_ref));
  TopModule top_module1 (.a, .b(b_dut));
  wire tb_match = (b_ref === (b_ref ^ b_dut ^ b_ref));
  always @(posedge clk, negedge clk) begin
    clocks++;
    if (!tb_match) errors++;
  end
  final $display("Mismatches: %1d in %1d samples", errors, clocks);
  initial begin
    #1000000 $display("TIMEOUT");
    $finish();
  end
endmodule
"""


def test_machine(shared_data) -> None:  # type: ignore[no-untyped-def]
    source = VerilogEval(path=Path(shared_data("verilogeval")))
    prompts = list(source.prompts())
    assert len(prompts) == len({p.id for p in prompts}) == 143
    first = prompts[0]
    assert first.id.startswith("verilogeval/")
    assert first.messages[0].content.endswith("\n" + first.meta["header"])
    assert first.reference is not None
    assert first.reference.startswith(first.meta["header"])
    assert first.meta["harness"] == "verilogeval-v1"
    assert first.meta["suite"] == "verilogeval-machine"
    assert set(source.fingerprint()) == {
        "suite",
        "VerilogEval_Machine.jsonl",
        "VerilogDescription_Machine.jsonl",
    }
    assert list(source.prompts()) == prompts


def test_part_of_it(shared_data) -> None:  # type: ignore[no-untyped-def]
    folder = Path(shared_data("verilogeval"))
    every = [p.id for p in VerilogEval(path=folder).prompts()]
    assert [p.id for p in VerilogEval(path=folder, offset=5, limit=3).prompts()] == every[5:8]
    assert {p.id for p in VerilogEval(path=folder, ids=["zero", "gatesv"]).prompts()} == {
        "verilogeval/zero",
        "verilogeval/gatesv",
    }
    with pytest.raises(DataError, match="no task 'nonsense'"):
        list(VerilogEval(path=folder, ids=["nonsense"]).prompts())


def test_descriptions(shared_data) -> None:  # type: ignore[no-untyped-def]
    file = Path(shared_data("verilogeval")) / "ExampleEval.jsonl"
    detail = next(VerilogEval(path=file).prompts())
    simple = next(VerilogEval(path=file, description="simple").prompts())
    assert detail.messages != simple.messages
    assert detail.id == simple.id
    with pytest.raises(
        DataError, match=r"VerilogDescription_Machine.jsonl:\d+: task .* has no 'simple_description'"
    ):
        list(VerilogEval(path=file.parent, description="simple").prompts())


def test_layout_of_the_repository(shared_data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = Path(shared_data("verilogeval"))
    (tmp_path / "data").mkdir()
    (tmp_path / "descriptions").mkdir()
    shutil.copy(folder / "VerilogEval_Machine.jsonl", tmp_path / "data")
    shutil.copy(folder / "VerilogDescription_Machine.jsonl", tmp_path / "descriptions")
    moved, given = VerilogEval(path=tmp_path), VerilogEval(path=folder)
    assert moved.fingerprint() == given.fingerprint()
    assert moved.key_params() == given.key_params()
    assert next(moved.prompts()) == next(given.prompts())


def write_v2(folder: Path, *, interface: bool) -> None:
    folder.mkdir(parents=True)
    for name in ("Prob001_not", "Prob002_again"):
        (folder / f"{name}_ref.sv").write_text("\n" + REFERENCE)
        (folder / f"{name}_test.sv").write_text(BENCH)
        text = "\nImplement an inverter.\n\n"
        if interface:
            header = REFERENCE.split(";")[0].replace("RefModule", "TopModule") + ";\n"
            (folder / f"{name}_ifc.txt").write_text("\n" + header)
            text += header + "\n"
        (folder / f"{name}_prompt.txt").write_text(text)
    (folder / "problems.txt").write_text("Prob002_again\nProb001_not\n")


def test_v2(tmp_path: Path) -> None:
    write_v2(tmp_path / "dataset_spec-to-rtl", interface=False)
    write_v2(tmp_path / "dataset_code-complete-iccad2023", interface=True)
    with pytest.raises(DataError, match="Choose one with `suite`"):
        list(VerilogEval(path=tmp_path).prompts())
    spec = list(VerilogEval(path=tmp_path, suite="spec-to-rtl").prompts())
    complete = list(VerilogEval(path=tmp_path / "dataset_code-complete-iccad2023").prompts())
    assert [p.meta["task"] for p in spec] == ["Prob002_again", "Prob001_not"]
    assert [p.messages[0].role for p in spec] == ["system", "system"]
    asked = spec[0].messages[1].content
    assert asked.startswith("\nQuestion:\nImplement an inverter.\n\nEnclose your code with [BEGIN]")
    assert asked.endswith("\nAnswer:\n")
    asked = complete[0].messages[1].content
    assert "// Implement an inverter.\n" in asked
    assert "\nmodule TopModule (\n  input a,\n" in asked
    plain = next(VerilogEval(path=tmp_path, suite="spec-to-rtl", wrap=False).prompts())
    assert [m.content for m in plain.messages] == ["\nImplement an inverter.\n\n"]
    for prompt in (*spec, *complete):
        assert prompt.meta["header"] == "module TopModule (\n  input a,\n  output b\n);\n"
        assert prompt.meta["top"] == "TopModule"
    assert failing([*spec, *complete]) == []
    verifier = VerilogVerifier()
    assert verifier.check(spec[0], "[BEGIN]\n  assign b = !a;\nendmodule\n[DONE]").passed
    assert verifier.check(spec[0], "  assign b = a;\nendmodule").outcome == "mismatch"
    cheat = "module TopModule (input a, output b); RefModule r (.a, .b); endmodule"
    assert verifier.check(spec[0], cheat).outcome == "refused"
    hang = "  reg r = 0; assign b = r;\nendmodule"
    assert not verifier.check(spec[0], hang).passed
    files = VerilogEval(path=tmp_path, suite="spec-to-rtl").fingerprint()
    assert len(files) == 8
    assert files["suite"] == "spec-to-rtl"


def test_v2_that_times_out(tmp_path: Path) -> None:
    write_v2(tmp_path / "dataset_spec-to-rtl", interface=False)
    bench = tmp_path / "dataset_spec-to-rtl/Prob001_not_test.sv"
    bench.write_text(BENCH.replace("repeat (20) @", "forever @"))
    prompt = list(VerilogEval(path=tmp_path).prompts())[1]
    assert failing([prompt]) == [(prompt.id, "timeout")]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        list(VerilogEval(path=tmp_path / "nowhere").prompts())
    with pytest.raises(DataError, match="no VerilogEval suite here"):
        VerilogEval(path=tmp_path).fingerprint()
    problems = tmp_path / "VerilogEval_Human.jsonl"
    problems.write_text("{}\n")
    with pytest.raises(DataError, match=r"VerilogDescription_Human\.jsonl"):
        list(VerilogEval(path=tmp_path).prompts())
    texts = tmp_path / "VerilogDescription_Human.jsonl"
    texts.write_text(json.dumps({"task_id": "a", "detail_description": "A."}) + "\n")
    with pytest.raises(DataError, match=r"VerilogEval_Human.jsonl:1: no 'task_id'"):
        list(VerilogEval(path=tmp_path).prompts())
    problems.write_text('\n{"task_id": "b", "prompt": "", "canonical_solution": "", "test": ""}\n')
    with pytest.raises(DataError, match="no description of task 'b'"):
        list(VerilogEval(path=tmp_path).prompts())
    problems.write_text("{]")
    with pytest.raises(DataError, match=r":1: not JSON"):
        list(VerilogEval(path=problems).prompts())

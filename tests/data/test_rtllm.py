"""RTLLM's folders, in small designs of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.data.base import DataError
from itercli.data.rtllm import Rtllm
from itercli.verifiers.verilog import VerilogVerifier
from tests.verifiers.benches import failing

BENCH = """`timescale 1ns/1ps
module tb_inc;
  reg [3:0] v; wire [3:0] w; integer i, error = 0; reg [3:0] expected [0:3];
  inc #(.STEP(1)) uut (.value(v), .next(w));
  initial begin
    $readmemh("expected.dat", expected);
    for (i = 0; i < 4; i = i + 1) begin v = i; #10; if (w !== expected[i]) error = error + 1; end
    if (error == 0) $display("===========Your Design Passed===========");
    else $display("===========Test completed with %d /4 failures===========", error);
  end
endmodule
"""
REFERENCE = """module verified_inc #(parameter STEP = 1) (input [3:0] value, output [3:0] next);
  add4 a (value, STEP[3:0], next);
endmodule
module add4 (input [3:0] x, y, output [3:0] z); assign z = x + y; endmodule
"""


def design(root: Path, group: str = "Arithmetic", name: str = "inc") -> Path:
    folder = root / group / name
    folder.mkdir(parents=True)
    (folder / "design_description.txt").write_text(
        "Please act as a professional verilog designer.\n\nModule name:\n    inc\nInput ports:\n    value\n"
    )
    (folder / "testbench.v").write_text(BENCH)
    (folder / f"verified_{name}.v").write_text(REFERENCE)
    (folder / "expected.dat").write_text("1\n2\n3\n4\n")
    (folder / "makefile").write_text("vcs:\n")
    return folder


def test_a_design(tmp_path: Path) -> None:
    design(tmp_path)
    design(tmp_path, "_chatgpt4/t1")  # models' answers that lie beside
    (prompt,) = Rtllm(path=tmp_path).prompts()
    assert prompt.id == "rtllm/inc"
    assert prompt.messages[0].content.startswith("Please act as a professional verilog designer.")
    assert prompt.meta["files"] == {"expected.dat": "1\n2\n3\n4\n"}
    assert (prompt.meta["top"], prompt.meta["harness"]) == ("inc", "rtllm")
    assert "module inc #(" in (prompt.reference or "")
    assert failing([prompt]) == []
    verifier = VerilogVerifier()
    header = "module inc #(parameter STEP = 1) (input [3:0] value, output [3:0] next);\n"
    answer = header + " assign next = {};\nendmodule"
    assert verifier.check(prompt, answer.format("value + STEP")).passed
    wrong = verifier.check(prompt, answer.format("value + 2"))
    assert (wrong.outcome, "4 /4 failures" in wrong.message) == ("mismatch", True)
    forged = answer.format('0; initial $display("===========Your Design Passed===========")')
    assert not verifier.check(prompt, forged).passed
    reads = answer.format('m[value]; reg [3:0] m [0:15]; initial $readmemh("expected.dat", m)')
    assert verifier.check(prompt, reads).outcome == "refused"
    assert not verifier.check(prompt, header + "endmodule").passed


def test_layouts_and_choice(tmp_path: Path) -> None:
    design(tmp_path / "v2", "Control/Finite State Machine", "b")
    design(tmp_path / "v2", "Arithmetic", "a")
    design(tmp_path / "v1", ".", "inc")
    assert [p.id for p in Rtllm(path=tmp_path / "v2").prompts()] == ["rtllm/a", "rtllm/b"]
    assert [p.id for p in Rtllm(path=tmp_path / "v2", offset=1, limit=1).prompts()] == ["rtllm/b"]
    assert [p.id for p in Rtllm(path=tmp_path / "v2", ids=["a"]).prompts()] == ["rtllm/a"]
    assert [p.id for p in Rtllm(path=tmp_path / "v1").prompts()] == ["rtllm/inc"]
    assert [p.id for p in Rtllm(path=tmp_path / "v1" / "inc").prompts()] == ["rtllm/inc"]


def test_the_key_holds_every_file(tmp_path: Path) -> None:
    folder = design(tmp_path)
    before = Rtllm(path=tmp_path).fingerprint()
    assert set(before) == {f"inc/{n}" for n in ("design_description.txt", "testbench.v", "verified_inc.v",
                                                "expected.dat")}  # fmt: skip
    (folder / "expected.dat").write_text("1\n2\n3\n5\n")
    changed = Rtllm(path=tmp_path).fingerprint()
    assert {k for k in before if before[k] != changed[k]} == {"inc/expected.dat"}


def test_errors_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        list(Rtllm(path=tmp_path / "nowhere").prompts())
    with pytest.raises(DataError, match=r"no design_description\.txt below it"):
        Rtllm(path=tmp_path).fingerprint()
    folder = design(tmp_path)
    with pytest.raises(DataError, match="no design 'x'"):
        list(Rtllm(path=tmp_path, ids=["x"]).prompts())
    (folder / "testbench.v").write_text("module tb; endmodule\n")
    with pytest.raises(DataError, match=r"testbench\.v: instantiates no module"):
        list(Rtllm(path=tmp_path).prompts())
    (folder / "testbench.v").unlink()
    with pytest.raises(DataError, match=r"testbench\.v: no such file"):
        list(Rtllm(path=tmp_path).prompts())

"""Forms in which models answer: the code in each is what they meant."""

from __future__ import annotations

import pytest

from itercli.verifiers.verilog_extract import extract

HEADER = "module TopModule (\n  input a,\n  output b\n);\n"
BODY = "  assign b = ~a;\nendmodule\n"
WHOLE = HEADER + BODY
DRAFT = HEADER + "  assign b = a;\nendmodule\n"
STUB = HEADER + "  // to be filled in\nendmodule\n"
USES = HEADER + "  inv u (.x(a), .y(b));\nendmodule\n"
INV = "module inv(input x, output y); assign y = ~x; endmodule\n"
TESTED = HEADER + "  test_inv u (.x(a), .y(b));\nendmodule\n"
TEST_INV = INV.replace("inv", "test_inv")
SIM = "module sim;\n  reg a; wire b;\n  TopModule dut(a, b);\n  initial #5 $finish;\nendmodule\n"
PACKAGE = "package p;\n  localparam W = 1;\nendpackage\n"
TYPE = "typedef enum logic [1:0] {A, B} state_t;\n"
GUARDED = f"`ifndef T\n`define T\n{WHOLE}`endif\n"
COMMENTED = HEADER + '  // module TopModule (x); endmodule\n  localparam S = "endmodule";\n' + BODY
MACRO = WHOLE.replace("module T", "macromodule T")
LANGUAGES = ("", "systemverilog", "sv", "v", "Verilog", " verilog", 'verilog title="t.v"', "sv:top.sv")
FUNCTION = "function automatic f(input x);\n  f = ~x;\nendfunction\n"


def fence(code: str, info: str = "verilog", run: str = "```") -> str:
    return f"{run}{info}\n{code}{run}\n"


ANSWERS = {
    # Delimited code is taken as it is.
    "localparam before the module": (fence("localparam L = 3;\n" + WHOLE), "localparam L = 3;\n" + WHOLE),
    "package before": (fence(PACKAGE + WHOLE), PACKAGE + WHOLE),
    "typedef before": (fence(TYPE + WHOLE), TYPE + WHOLE),
    "function before": (fence(FUNCTION + WHOLE), FUNCTION + WHOLE),
    "include guard": (fence(GUARDED), GUARDED),
    "directive after": (fence(f"`default_nettype none\n{WHOLE}`default_nettype wire\n"),
                        f"`default_nettype none\n{WHOLE}`default_nettype wire\n"),
    "attribute before": (fence("(* keep *)\n" + WHOLE), "(* keep *)\n" + WHOLE),
    "helper in the fence": (fence(USES + INV), USES + INV),
    "[BEGIN] as it is": (f"[BEGIN]\n{TYPE}{WHOLE}[DONE]", TYPE + WHOLE),
    # Languages and kinds of fences.
    **{f"language {info!r}": (fence(WHOLE, info), WHOLE)
       for info in LANGUAGES},
    "tildes": (fence(WHOLE, run="~~~"), WHOLE),
    "four backticks around three": (fence("Text:\n" + fence(WHOLE), "markdown", "````"), WHOLE),
    "four backticks": (fence(WHOLE, run="````"), WHOLE),
    "indented fence": ("1. Code:\n   ```verilog\n" + WHOLE + "   ```\n", WHOLE),
    "fence in a list": ("- ```verilog\n" + WHOLE + "  ```\n", WHOLE),
    "quoted fence": ("".join(f"> {line}\n" for line in fence(WHOLE).splitlines()), WHOLE),
    "fence never closed": ("Here:\n```verilog\n" + WHOLE, WHOLE),
    "fence never closed, prose after": ("Here:\n```verilog\n" + WHOLE + "\nIt inverts a.", WHOLE),
    "fence cut off": ("```verilog\n" + HEADER + "  assign b =", HEADER + "  assign b =\n"),
    "closed on the line of the code": ("```verilog\n" + WHOLE.rstrip() + "```\nDone.", WHOLE),
    "opened after a sentence": ("The code: ```verilog\n" + WHOLE + "```\n", WHOLE),
    "code on the fence's line": ("```verilog " + WHOLE + "```\n", WHOLE),
    "opened anew without closing": ("```verilog\n" + DRAFT + "\nBetter:\n" + fence(WHOLE), WHOLE),
    "Windows line ends": (fence(WHOLE).replace("\n", "\r\n"), WHOLE),
    "byte order mark": ("\ufeff" + WHOLE, WHOLE),
    "fence opened in the prompt": (WHOLE + "```\nIt inverts.\n```\na b\n```\n", WHOLE),
    # Several parts.
    "drafts, then the answer": (
        f"First:\n{fence(DRAFT)}No.\n{fence(DRAFT)}Final answer:\n{fence(WHOLE)}", WHOLE),
    "skeleton first": (fence(STUB) + fence(WHOLE), WHOLE),
    "skeleton last": (fence(WHOLE) + "Interface:\n" + fence(STUB), WHOLE),
    "skeleton and module in one fence": (fence(STUB + WHOLE), WHOLE),
    "bench in a second fence": (fence(WHOLE) + fence(SIM), WHOLE),
    "bench in the same fence": (fence(WHOLE + SIM), WHOLE),
    "bench first": (fence(SIM) + fence(WHOLE), WHOLE),
    "helper in a fence of its own": (fence(INV) + "Then:\n" + fence(USES), INV + USES),
    "helper in a later fence": (fence(USES) + "where\n" + fence(INV), INV + USES),
    "shell after": (fence(WHOLE) + fence("iverilog x.v\n", "bash"), WHOLE),
    "module outside, shell in a fence": (WHOLE + "Run:\n" + fence("iverilog x.v\n", "sh"), WHOLE),
    "last one cut off": (fence(WHOLE) + "```verilog\n" + HEADER, WHOLE),
    "body in a fence": (fence(BODY), WHOLE),
    "body with declarations in a fence": (fence("  wire n = ~a;\n  assign b = n;\nendmodule\n"),
                                          HEADER + "  wire n = ~a;\n  assign b = n;\nendmodule\n"),
    # Markers.
    "markers named in prose": (f"The code is between [BEGIN] and [DONE].\n\n[BEGIN]\n{WHOLE}[DONE]\n", WHOLE),
    "markers named at a line's start": (f"[BEGIN] and [DONE] enclose it:\n[BEGIN]\n{WHOLE}[DONE]", WHOLE),
    "markers around a fence": (f"[BEGIN]\n{fence(WHOLE)}[DONE]", WHOLE),
    "markers in a fence": (fence(f"[BEGIN]\n{WHOLE}[DONE]\n"), WHOLE),
    "markers across a fence": (f"```verilog\n[BEGIN]\n{WHOLE}```\n[DONE]", WHOLE),
    "marker before code": (f"Answer: [BEGIN]{WHOLE}[DONE]", WHOLE),
    "bold markers": (f"**[BEGIN]**\n{WHOLE}**[DONE]**\n", WHOLE),
    "never done": (f"[BEGIN]\n{WHOLE}", WHOLE),
    "draft and answer in markers": (f"[BEGIN]\n{DRAFT}[DONE]\nNo:\n[BEGIN]\n{WHOLE}[DONE]", WHOLE),
    "named, then only a fence": (f"Instead of [BEGIN] and [DONE] I use a fence.\n{fence(WHOLE)}", WHOLE),
    "marker in a comment": (fence("// [BEGIN] top\n" + WHOLE), "// [BEGIN] top\n" + WHOLE),
    "answer tags": (f"<answer>\n{fence(WHOLE)}</answer>", WHOLE),
    # Thoughts.
    "draft in a thought": (f"<think>\n{fence(DRAFT)}Wrong.\n</think>\n\n{fence(WHOLE)}", WHOLE),
    "thought opened in the prompt": (f"Try {fence(DRAFT)}</think>\n{WHOLE}", WHOLE),
    "answer, then a later thought": (f"<think>x</think>\n{fence(WHOLE)}", WHOLE),
    "thought without an end": (f"<think>\n{fence(DRAFT)}", ""),
    "markers in a thought": (f"<think>[BEGIN]\n{DRAFT}[DONE]</think>[BEGIN]\n{WHOLE}[DONE]", WHOLE),
    # Undelimited text.
    "on the line of the sentence": (f"Answer: {WHOLE}", WHOLE),
    "inside a sentence": (f"The module TopModule (see below) inverts. Here: {WHOLE}That is all.", WHOLE),
    "a sentence that ends like a header": (f"I wrote module TopModule;\n{WHOLE}", WHOLE),
    "body after prose": (f"The rest of the module:\n\n{BODY}", HEADER + BODY),
    "body after prose on its line": (f"The rest: {BODY.lstrip()}", HEADER + BODY.lstrip()),
    "body with prose around": (f"Always use assign here.\nThe module is simple.\n{BODY}Done.", WHOLE),
    "body that begins with an instance": (f"Sure.\n  inv u (.x(a), .y(b));\nendmodule\n{INV}", USES + INV),
    "localparam before, no fence": (f"Sure:\nlocalparam L = 3;\n{WHOLE}", "localparam L = 3;\n" + WHOLE),
    "typedef before, no fence": (f"Sure.\n\n{TYPE}\n{WHOLE}", f"{TYPE}\n{WHOLE}"),
    "function before, no fence": (f"Sure.\n{FUNCTION}{WHOLE}", FUNCTION + WHOLE),
    "guard, no fence": (f"{GUARDED}Bye.", GUARDED),
    "prose between modules": (f"The helper:\n{INV}And the top:\n{USES}Done.", INV + USES),
    "drafts without fences": (f"{DRAFT}\nThat is wrong. The corrected module:\n{WHOLE}", WHOLE),
    "skeleton without fences": (f"{STUB}\nNow the whole:\n{WHOLE}", WHOLE),
    "said again without a stop": (f"{WHOLE}\n{DRAFT}", WHOLE),
    "inline code": (f"Use `{WHOLE.rstrip()}` here.", WHOLE),
    "fence in the sentence": (f"Code: ```{WHOLE.rstrip()}```", WHOLE),
    "the next task, without a stop": (f"{WHOLE}\n### Instruction:\nWrite the full module\n{DRAFT}", WHOLE),
    "a snippet after the module": (fence(WHOLE) + "The key line:\n" + fence("assign b = ~a;\n"), WHOLE),
    "another language first": (fence("entity TopModule is end;\n", "vhdl") + fence(WHOLE), WHOLE),
    "[END]": (f"[BEGIN]\n{WHOLE}[END]\n", WHOLE),
    "header repeated": (HEADER + WHOLE, WHOLE),
    "macromodule": (MACRO, MACRO),
    "labelled end": (f"{WHOLE.rstrip()} : TopModule\nBye.", f"{WHOLE.rstrip()} : TopModule\n"),
    "module in comments and strings": (COMMENTED, COMMENTED),
    "end-of-text token": (WHOLE + "<|im_end|>", WHOLE),
    "label of a dropped bench": (WHOLE + SIM.rstrip() + " : sim\n", WHOLE),
    # Modules that are named like benches.
    "helper named test_": (TESTED + TEST_INV, TESTED + TEST_INV),
    "helper named test_ in a fence": (fence(TEST_INV + TESTED), TEST_INV + TESTED),
    "unused test_": (WHOLE + TEST_INV, WHOLE),
    "appended bench of any name": (WHOLE + "\n" + SIM, WHOLE),
    "bench around a bench": (WHOLE + SIM + "module runner; sim s(); endmodule\n", WHOLE),
    "unused helper": (WHOLE + INV, WHOLE + INV),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answer(name: str) -> None:
    completion, code = ANSWERS[name]
    assert extract(completion, HEADER, "TopModule") == code

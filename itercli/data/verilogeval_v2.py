"""VerilogEval v2's folders: `problems.txt` and, per problem, a prompt, a bench and a reference.

Pinckney et al. 2024, "Revisiting VerilogEval"; files as on branch main. Prompts are put
together as `scripts/sv-generate` does without examples and rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from itercli.data.base import DataError, read_text
from itercli.records import Message, Prompt

SYSTEM = {
    "spec-to-rtl": "You are a Verilog RTL designer that only writes code using correct Verilog syntax.",
    "code-complete": "You only complete chats with syntax correct Verilog code. End the Verilog module code "
    "completion with 'endmodule'. Do not include module, input and output definitions.",
}
BRACKETS = """\
Enclose your code with [BEGIN] and [DONE]. Only output the code snippet
and do NOT output anything else.
"""
COMMENT = (
    "// Implement the Verilog module based on the following description. Assume that signals are positive "
    "clock/clk triggered unless otherwise stated."
)


def v2_problems(folder: Path) -> list[str]:
    """Names of the problems: as in problems.txt, else those with a prompt, sorted."""
    listing = folder / "problems.txt"
    if listing.exists():
        return [line.strip() for line in read_text(listing).split("\n") if line.strip()]
    names = sorted(p.name.removesuffix("_prompt.txt") for p in folder.glob("*_prompt.txt"))
    if not names:
        raise DataError(folder, None, "no problems.txt and no *_prompt.txt", "Name a v2 data folder")
    return names


def v2_files(folder: Path) -> list[Path]:
    """All files that `v2_prompts` reads."""
    listing = folder / "problems.txt"
    files = [listing] if listing.exists() else []
    for name in v2_problems(folder):
        files += [folder / f"{name}{end}" for end in ("_prompt.txt", "_ref.sv", "_test.sv")]
        interface = folder / f"{name}_ifc.txt"
        files += [interface] if interface.exists() else []
    return files


def v2_prompts(folder: Path, suite: str, *, wrap: bool) -> Iterator[Prompt]:
    """Prompts of one v2 suite.

    Raises:
        DataError: A problem's file is missing or has no RefModule.
    """
    for name in v2_problems(folder):
        text = read_text(folder / f"{name}_prompt.txt")
        reference_file = folder / f"{name}_ref.sv"
        reference, test = read_text(reference_file), read_text(folder / f"{name}_test.sv")
        interface = folder / f"{name}_ifc.txt"
        header = read_text(interface).lstrip("\n") if interface.exists() else None
        if header is None:
            header = _header(reference, reference_file)
        messages = [Message(role="user", content=text)]
        if wrap:
            system = Message(role="system", content=SYSTEM[suite])
            messages = [system, Message(role="user", content=_ask(text, suite))]
        yield Prompt(
            id=f"verilogeval-v2/{suite}/{name}",
            messages=messages,
            reference=re.sub(r"\bRefModule\b", "TopModule", reference).strip("\n") + "\n",
            meta={
                "suite": "verilogeval-v2", "task": name, "header": header, "bench": f"{test}\n{reference}",
                "top": "TopModule", "reference_name": "RefModule", "harness": "verilogeval-v2",
            },
        )  # fmt: skip


def _header(reference: str, path: Path) -> str:
    found = re.search(r"^\s*module\s+RefModule\b.*?\)\s*;", reference, re.MULTILINE | re.DOTALL)
    if found is None:
        raise DataError(path, None, "no module RefModule (...);", "Restore the authors' file")
    return found.group().strip().replace("RefModule", "TopModule") + "\n"


def _ask(text: str, suite: str) -> str:
    if suite == "spec-to-rtl":
        return f"\nQuestion:\n{text.strip()}\n\n{BRACKETS}\nAnswer:\n"
    lines, described = [COMMENT], True
    for line in text.split("\n"):
        if "module TopModule" in line and described:
            lines.append("")
            described = False
        lines.append(f"// {line}" if described else line)
    return "\n" + "\n".join(lines)

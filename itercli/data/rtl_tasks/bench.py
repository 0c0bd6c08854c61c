"""Self-checking test benches, made from the reference.

The protocol is VerilogEval v1's, so that one verifier serves both: the bench holds
`reference_module` and `tb`, drives both modules alike, and its last line is
`Mismatches: D in N samples`. An X in the reference's output matches anything.
"""

from __future__ import annotations

import re

from itercli.data.rtl_tasks.task import TOP, Task, bits, stable_hash

EXHAUSTIVE_BITS = 8
RANDOM_VECTORS = 192
CYCLES = 160


def make_bench(task: Task) -> tuple[str, int]:
    """Build the bench of a task.

    Returns:
        The Verilog text (to be compiled before the candidate) and the number of samples
        that an honest run reports.
    """
    reference = re.sub(rf"\bmodule {TOP}\b", "module reference_module", task.code)
    drive, samples = _combinational(task) if task.reset is None else _clocked(task)
    names = [n for n, _ in task.inputs]
    if task.reset is not None:
        names = ["clk", *([task.reset.port] if task.reset.port else []), *names]
    widths = dict(task.inputs)
    decls = [f"    reg {bits(widths.get(n, 1))}{n};" for n in names]
    decls += [f"    wire {bits(w)}{n}_ref, {n}_dut;" for n, w, _ in task.outputs]
    refs = ", ".join(f"{n}_ref" for n, _, _ in task.outputs)
    duts = ", ".join(f"{n}_dut" for n, _, _ in task.outputs)
    lines = [
        "`timescale 1 ps/1 ps",
        reference,
        "module tb;",
        *decls,
        "    integer i, errors, samples, seed;",
        f"    reference_module good1 ({_ports(task, names, 'ref')});",
        f"    {TOP} {TOP}1 ({_ports(task, names, 'dut')});",
        "    task check;",
        "        begin",
        "            samples = samples + 1;",
        f"            if ({{{refs}}} !== ({{{refs}}} ^ {{{duts}}} ^ {{{refs}}})) errors = errors + 1;",
        "        end",
        "    endtask",
        "    initial begin",
        f"        errors = 0; samples = 0; seed = {stable_hash(task.id) % 2**31};",
        *("        " + line for line in drive),
        '        $display("Mismatches: %0d in %0d samples", errors, samples);',
        "        $finish(0);",
        "    end",
        "endmodule",
    ]
    return "\n".join(lines) + "\n", samples


def _ports(task: Task, names: list[str], side: str) -> str:
    ins = [f".{n}({n})" for n in names]
    return ", ".join(ins + [f".{n}({n}_{side})" for n, _, _ in task.outputs])


def _combinational(task: Task) -> tuple[list[str], int]:
    total = sum(w for _, w in task.inputs)
    if not total:
        return ["#5 check;", "#5 check;"], 2
    if total <= EXHAUSTIVE_BITS:
        every = "{" + ", ".join(n for n, _ in task.inputs) + "}"
        return [f"for (i = 0; i < {2**total}; i = i + 1) begin {every} = i; #5 check; end"], 2**total
    # Plain random vectors never hit a == b or the bounds of a comparison: force both.
    lines = [f"for (i = 0; i < {RANDOM_VECTORS}; i = i + 1) begin"]
    lines += [f"    {n} = $random(seed);" for n, _ in task.inputs]
    first = task.inputs[0][0]
    lines += [f"    if (i % 4 == 1) {n} = {first};" for n, w in task.inputs[1:] if w > 1]
    lines += ["    #5 check;", "end"]
    samples = RANDOM_VECTORS
    for value in corner_values(task):
        for name, width in task.inputs:
            if width > 1:
                lines.append(f"{name} = {value % 2**width}; #5 check;")
                samples += 1
    return lines, samples


def corner_values(task: Task) -> list[int]:
    """Values around the task's constants, then zero and all ones."""
    near = [c + d for c in task.corners for d in (-1, 0, 1) if c + d >= 0]
    return list(dict.fromkeys([*near, 0, 2**31 - 1]))


def _clocked(task: Task) -> tuple[list[str], int]:
    reset = task.reset
    assert reset is not None
    lines = ["clk = 0;"]
    lines += [f"{n} = 0;" for n, _ in task.inputs]
    if reset.port:
        lines += [f"{reset.port} = {1 - reset.level};", "#5;"]
    lines.append(f"for (i = 0; i < {CYCLES}; i = i + 1) begin")
    if reset.port:
        # Rare enough that counters wrap, and while the clock is low, so that synchronous and
        # asynchronous resets differ in the sample before the edge.
        lines.append(f"    {reset.port} = (i < 2 || i % 48 == 37) ? {reset.level} : {1 - reset.level};")
    lines += [f"    {n} = $random(seed);" for n, _ in task.inputs]
    for value in task.corners:
        lines += [f"    if (i % 5 == 2) {n} = {value % 2**w};" for n, w in task.inputs if w > 1]
    lines += ["    #5 check; clk = 1;", "    #5 check; clk = 0;", "    #5 check;", "end"]
    return lines, 3 * CYCLES

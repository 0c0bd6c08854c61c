"""Functional check of Verilog against a test bench, and the scorer `functional`.

Each suite is compiled, limited and judged as its authors' harness does (`verilog_harness`),
with what it takes to serve as a reward: output is taken out (`verilog_neutral`), cheats are
refused (`verilog_rules`), the bench's names and its verdict line are random
(`verilog_bench`), the last verdict line counts and must report as many samples as the
reference's run did, and all of it runs in the sandbox.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.engine.sandbox import Limits
from itercli.records import Prompt, Score, Trajectory
from itercli.registry import how, register
from itercli.verifiers.base import Scorer, Verdict
from itercli.verifiers.once import Once
from itercli.verifiers.verilog_bench import LEVELS, Bench, Hardening, prepare
from itercli.verifiers.verilog_extract import extract
from itercli.verifiers.verilog_neutral import neutralised
from itercli.verifiers.verilog_outcomes import CODES, classify_log, classify_mismatch, counts
from itercli.verifiers.verilog_rules import calls, drives_inputs, refusal, smuggled
from itercli.verifiers.verilog_task import NoBench, Task, problem
from itercli.verifiers.verilog_text import modules, ports
from itercli.verifiers.verilog_tools import CANDIDATE, Setup, SimRun, Simulator, Svling, find_icarus
from itercli.verifiers.verilog_units import is_stub

__all__ = ["Functional", "FunctionalJudge", "NoBench", "Task", "VerilogVerifier"]

MESSAGE = 1500  # characters kept of what the tools said
WALL = 4  # wall time for each second of CPU: many checks share the cores
SLOWER = 5  # times the reference's own run that a sample may take
PATIENCE = Limits(wall=300, cpu=120)  # of a reference's own run


@dataclass(frozen=True)
class _Expected:
    """What the reference's own run showed about a bench."""

    samples: int | None
    calls: Counter[str] | None
    hardening: Hardening
    seconds: float = 0.0


class VerilogVerifier:
    """Checks completions; one instance serves many threads.

    The same code is checked once per bench, and a thread that asks for what another is
    checking waits for it.

    Args:
        simulator: By default Icarus, as found by `find_icarus`.
        limits: Of compiling and simulating together; by default those of each prompt's harness.
        warnings_fail, cpu_seconds, sim_time, wall: Override what the prompts' harness says.
    """

    def __init__(
        self,
        simulator: Simulator | None = None,
        limits: Limits | None = None,
        warnings_fail: bool | None = None,
        *,
        cpu_seconds: int | None = None,
        sim_time: int | None = None,
        wall: float | None = None,
        memory: int = 1 << 30,
    ) -> None:
        self.simulator = simulator or find_icarus()
        self.limits = limits
        self.warnings_fail = warnings_fail
        self.cpu_seconds, self.sim_time = cpu_seconds, sim_time
        self.wall, self.memory = wall, memory
        self._verdicts: Once[Verdict] = Once()
        self._expected: Once[_Expected] = Once()

    def check(self, prompt: Prompt, completion: str) -> Verdict:
        """Extract the code from a completion and check it.

        `meta` of the verdict: `answer` (the code), `code` (VerilogEval v2's letter),
        `mismatches` and `samples` where the bench said so, `cached`.

        Raises:
            ValueError: The prompt has no bench.
            SandboxError, ToolMissing: The tools do not work; says nothing about the code.
        """
        task = Task.of(prompt)
        code = extract(completion, task.header, task.top)
        return self.check_code(task, code)

    def check_code(self, task: Task, code: str) -> Verdict:
        """Check extracted code."""
        key = _digest((*map(str, astuple(task)), str(self._warnings(task)), code))
        verdict, fresh = self._verdicts.get(key, lambda: self._check(task, code))
        meta = {**verdict.meta, "answer": code, "cached": not fresh}
        return verdict.model_copy(update={"meta": meta})

    def _warnings(self, task: Task) -> bool:
        return task.warnings_fail if self.warnings_fail is None else self.warnings_fail

    def _sim_time(self, task: Task) -> int | None:
        return self.sim_time or task.sim_time

    def _limits(self, task: Task, expected: _Expected) -> Limits:
        if self.limits is not None:
            return self.limits
        cpu = self.cpu_seconds or task.cpu_seconds
        cpu = max(cpu, math.ceil(SLOWER * expected.seconds))
        return Limits(wall=self.wall or WALL * cpu, cpu=cpu, memory=self.memory)

    def _check(self, task: Task, code: str) -> Verdict:
        if not code.strip():
            return _verdict("empty", "no Verilog in the completion")
        quiet = neutralised(code)
        bench = self._bench(task, "renamed")
        macros = bench.macros if task.harness.sample_first else ()
        rules = {"top": task.top, "forbidden": bench.names, "macros": macros}
        reason = refusal(quiet, strict=False, **rules)  # type: ignore[arg-type]
        if reason:
            return _verdict("refused", reason)
        expected = self._expectation(task)
        if expected.hardening != "renamed" and (reason := refusal(quiet, **rules)):  # type: ignore[arg-type]
            return _verdict("refused", reason)
        run, suffix = self._run(task, quiet, expected.hardening, self._limits(task, expected))
        outcome, message, found = self._judge(task, code, run, expected, suffix)
        message = message.replace(suffix, "")[:MESSAGE]
        meta: dict[str, Any] = {"mismatches": found[0], "samples": found[1]} if found else {}
        return _verdict(outcome, message, run.seconds, meta)

    def _bench(self, task: Task, hardening: Hardening) -> Bench:
        verdict = task.pass_line or "Mismatches"
        return prepare(task.bench, task.header, task.top, task.reference_name, hardening, verdict)

    def _run(self, task: Task, code: str, hardening: Hardening, limits: Limits) -> tuple[SimRun, str]:
        bench = self._bench(task, hardening)
        text, root, suffix = bench.render()
        guard = f"guard{suffix}"
        until = self._sim_time(task)
        if until is not None:
            # In the bench's own time units; `final` blocks still print what they found.
            text += (
                f'\nmodule {guard}; initial #{until} begin $display("{guard}"); $finish(0); end endmodule\n'
            )
        setup = Setup(
            task.harness.sample_first,
            task.harness.prelude,
            dict(task.files),
            (guard,) if until is not None else (),
        )
        return self.simulator.run(text, code, root, limits, setup), suffix

    def _expectation(self, task: Task) -> _Expected:
        if task.samples is not None:
            return _Expected(task.samples, None, "renamed")
        if task.reference is None:
            return _Expected(None, None, "renamed")
        return self._expected.get(_digest(map(str, astuple(task))), lambda: self._run_reference(task))[0]

    def _run_reference(self, task: Task) -> _Expected:
        code = neutralised(task.reference or "")
        for hardening in LEVELS:
            run, suffix = self._run(task, code, hardening, self.limits or PATIENCE)
            if not run.compiled or run.timed_out:
                continue
            found = self._found(task, run, suffix, hardening)
            if found is not None and found[0] == 0 and (found[1] > 0 or task.pass_line):
                samples = None if task.pass_line else found[1]
                return _Expected(samples, calls(run.program), hardening, run.seconds)
        # A bad reference (see `known_bad`): whatever the bench reports must do.
        return _Expected(None, None, LEVELS[-1])

    def _found(self, task: Task, run: SimRun, suffix: str, hardening: Hardening) -> tuple[int, int] | None:
        """(mismatches, samples) as the bench reports them; (0, 0) for its line that all is well.

        What `final` blocks print after the guard has ended the simulation does not count.
        """
        mark = suffix if self._bench(task, hardening).marked else ""
        said = run.output.partition(f"guard{suffix}")[0]
        if task.pass_line is None:
            return counts(said, mark)
        return (0, 0) if task.pass_line + mark in said else None

    def _judge(
        self, task: Task, code: str, run: SimRun, expected: _Expected, suffix: str
    ) -> tuple[str, str, tuple[int, int] | None]:
        """(outcome, message, (mismatches, samples))."""
        if run.compiled:
            cheat = smuggled(run.program, CANDIDATE, task.bench, expected.calls) or drives_inputs(
                run.program, run.log, task.top, ports(task.header)
            )
            if cheat:
                return "refused", f"compiled design: {cheat}", None
        if run.timed_out:
            return "timeout", f"ended by {run.ended} after {run.seconds:.0f} s", None
        found = self._found(task, run, suffix, expected.hardening)
        before, stopped, _ = run.output.partition(f"guard{suffix}")
        if stopped and found is None and not (task.pass_line and before.strip()):
            # Who has given a verdict had nothing left to do: a bench without $finish ends so.
            return "timeout", f"no end after {self._sim_time(task)} time units of the bench", None
        if self._warnings(task) and (run.log or run.errors):
            said = run.log + run.errors
            return classify_log(said) or "compile", said, None
        outcome = classify_log(run.log, compiled=run.compiled)
        if run.compiled and not task.harness.classes:
            outcome = None
        if outcome or not run.compiled:
            return outcome or "compile", run.log or f"the compiler ended by {run.ended}", None
        if "TIMEOUT" in run.output:
            return "timeout", "the bench's own time limit", found
        if run.ended != "exit" and found is not None:
            return "no_result", f"the simulator ended by {run.ended}", found
        if task.pass_line is not None:
            return self._judge_line(task, code, run, passed=found is not None)
        if found is None:
            how_ended = run.ended if run.ended != "exit" else f"exit code {run.returncode}"
            return "no_result", f"no verdict from the bench ({how_ended})\n{run.errors}", None
        mismatches, samples = found
        if samples <= 0 or (expected.samples is not None and samples != expected.samples):
            return "no_result", f"{samples} samples instead of {expected.samples or 'some'}", found
        if mismatches:
            return classify_mismatch(code), f"{mismatches} mismatches in {samples} samples", found
        return "pass", "", found

    def _judge_line(self, task: Task, code: str, run: SimRun, *, passed: bool) -> tuple[str, str, None]:
        if not passed:
            said = run.output.strip()[-300:] or run.errors.strip()[-300:]
            return classify_mismatch(code), f"the bench did not say {task.pass_line!r}\n{said}", None
        tops = [m for m in modules(code) if m.name == task.top]
        if tops and is_stub(code[tops[0].start : tops[0].end]):
            # Outputs that are X differ from nothing in a bench that compares with !=.
            return "mismatch", "the module does nothing, which the bench does not notice", None
        return "pass", "", None


def _verdict(outcome: str, message: str, seconds: float = 0.0, meta: dict[str, Any] | None = None) -> Verdict:
    return Verdict(
        outcome=outcome,
        passed=outcome == "pass",
        message=message[:MESSAGE],
        seconds=seconds,
        meta={"code": CODES[outcome], **(meta or {})},
    )


def _digest(parts: Iterable[str]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


@register("scorer", "functional")
class Functional(Scorer):
    """Runs each answer against its test bench: 1 if it passes, else 0.

    Attributes:
        simulator: "icarus", or "svling" with `svling_python`.
        svling_python: Interpreter of an environment where svling is installed.
        cpu_seconds: CPU time of compiling and of simulating one answer, each; None: the suite's (10,
            RTLLM 8), and at least five times what the reference takes.
        sim_time: Time units of the bench after which a simulation is ended; None: the suite's (10 million;
            own benches have no end).
        timeout: Wall time in seconds for compiling and simulating; None: four times the CPU time.
        memory: Bytes of address space of each tool process.
        warnings_fail: Whether a compiler warning fails an answer; None: as the data set's
            authors do (VerilogEval v1: yes, v2: no).
        partial_credit: Give an answer that compiles and fails the share of matching samples.
        timings: Keep tool seconds and cache hits in `meta`; rows then differ between runs.
    """

    VERSION: ClassVar[int] = 2
    SANDBOXED: ClassVar[bool] = True
    NEEDS: ClassVar[tuple[str, ...]] = ("Prompt.meta.bench",)

    simulator: Literal["icarus", "svling"] = "icarus"
    svling_python: str | None = how(None)
    cpu_seconds: int | None = Field(None, ge=1)
    sim_time: int | None = Field(None, ge=1)
    timeout: float | None = Field(None, gt=0)
    memory: int = Field(1 << 30, ge=1 << 26)
    warnings_fail: bool | None = None
    partial_credit: bool = False
    timings: bool = False

    def objection(self, prompt: Prompt) -> str:
        """How a prompt breaks the bench contract."""
        wrong = problem(prompt)
        return f"prompt {prompt.id!r}: {wrong}. See docs/verilog.md, Own benches" if wrong else ""

    def _tool(self) -> Simulator:
        if self.simulator == "icarus":
            return find_icarus()
        if not self.svling_python:
            raise ValueError("simulator svling needs svling_python: the interpreter of its own environment")
        return Svling(self.svling_python)

    def fingerprint(self) -> dict[str, str]:
        """The simulator's version: verdicts differ between versions."""
        return {"simulator": self._tool().version()}

    def open(self) -> FunctionalJudge:
        """Make the judge.

        Raises:
            ToolMissing: The simulator is not installed.
        """
        verifier = VerilogVerifier(
            self._tool(),
            warnings_fail=self.warnings_fail,
            cpu_seconds=self.cpu_seconds,
            sim_time=self.sim_time,
            wall=self.timeout,
            memory=self.memory,
        )
        return FunctionalJudge(self, verifier)


class FunctionalJudge:
    """The opened scorer."""

    def __init__(self, options: Functional, verifier: VerilogVerifier) -> None:
        self.options, self.verifier = options, verifier

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score:
        """Check one completion; thread-safe."""
        verdict = self.verifier.check(prompt, trajectory.completion)
        meta = dict(verdict.meta)
        answer = str(meta.pop("answer"))
        cached = meta.pop("cached")
        if self.options.timings:
            meta |= {"seconds": round(verdict.seconds, 4), "cached": cached}
        value = 1.0 if verdict.passed else 0.0
        if self.options.partial_credit and verdict.outcome in ("mismatch", "mismatch_reset"):
            value = 1.0 - meta["mismatches"] / meta["samples"]
        return Score(
            prompt_id=trajectory.prompt_id,
            index=trajectory.index,
            completion=trajectory.completion,
            policy=trajectory.policy,
            value=value,
            passed=verdict.passed,
            outcome=verdict.outcome,
            message=verdict.message,
            answer=answer,
            meta=meta,
        )

    def close(self) -> None:
        """Nothing to give back: the sandbox ends with the program."""

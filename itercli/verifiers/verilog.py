"""Functional check of Verilog against a test bench, and the scorer `functional`.

The verdict is VerilogEval's (NVlabs/verilog-eval, v1 `execution.py` and v2 `sv-iv-analyze`),
with what it takes to serve as a reward: cheats are refused (`verilog_rules`), the bench's
names are random (`verilog_bench`), the last verdict line counts and must report as many
samples as the reference's run did, and all of it runs in the sandbox.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.engine.sandbox import Limits
from itercli.errors import IterError
from itercli.records import Prompt, Score, Trajectory
from itercli.registry import how, register
from itercli.verifiers.base import Scorer, Verdict
from itercli.verifiers.once import Once
from itercli.verifiers.verilog_bench import LEVELS, Bench, Hardening, prepare
from itercli.verifiers.verilog_extract import extract
from itercli.verifiers.verilog_outcomes import CODES, classify_log, classify_mismatch, counts
from itercli.verifiers.verilog_rules import calls, drives_inputs, refusal, smuggled
from itercli.verifiers.verilog_text import ports
from itercli.verifiers.verilog_tools import CANDIDATE, SimRun, Simulator, Svling, find_icarus

MESSAGE = 1500  # characters kept of what the tools said


class NoBench(IterError, ValueError):
    """A prompt that can't be verified."""


@dataclass(frozen=True)
class Task:
    """What a prompt's meta says about its check.

    Attributes:
        bench: Test bench with the reference module (compiled before the candidate).
        samples: How many samples an honest run reports, or None if not known.
        warnings_fail: A compiler's warning fails the sample (VerilogEval v1).
    """

    bench: str
    header: str
    top: str
    reference_name: str
    reference: str | None
    samples: int | None
    warnings_fail: bool

    @classmethod
    def of(cls, prompt: Prompt) -> Task:
        """Read a prompt's meta.

        Raises:
            ValueError: There is no bench.
        """
        meta = prompt.meta
        if not isinstance(meta.get("bench"), str):
            raise NoBench(
                f"prompt {prompt.id!r} has no test bench: give it one in meta['bench'], or score without "
                f"(itertl.quality with verify: false and score_rule: quality)"
            )
        return cls(
            bench=meta["bench"],
            header=meta.get("header", ""),
            top=meta.get("top", "top_module"),
            reference_name=meta.get("reference_name", "reference_module"),
            reference=prompt.reference,
            samples=meta.get("samples"),
            warnings_fail=bool(meta.get("warnings_fail", False)),
        )


@dataclass(frozen=True)
class _Expected:
    """What the reference's own run showed about a bench."""

    samples: int | None
    calls: Counter[str] | None
    hardening: Hardening


class VerilogVerifier:
    """Checks completions; one instance serves many threads.

    The same code is checked once per bench, and a thread that asks for what another is
    checking waits for it.

    Args:
        simulator: By default Icarus, as found by `find_icarus`.
        limits: Of compiling and simulating together; v1's and v2's harness allow 30 s.
        warnings_fail: Overrides what the prompts say.
    """

    def __init__(
        self,
        simulator: Simulator | None = None,
        limits: Limits | None = None,
        warnings_fail: bool | None = None,
    ) -> None:
        self.simulator = simulator or find_icarus()
        self.limits = limits or Limits()
        self.warnings_fail = warnings_fail
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

    def _check(self, task: Task, code: str) -> Verdict:
        if not code.strip():
            return _verdict("empty", "no Verilog in the completion")
        names = prepare(task.bench, task.header, task.top, task.reference_name, "renamed").names
        reason = refusal(code, top=task.top, forbidden=names)
        if reason:
            return _verdict("refused", reason)
        expected = self._expectation(task)
        run, bench_suffix = self._run(task, code, expected.hardening)
        outcome, message, found = self._judge(task, code, run, expected)
        message = message.replace(bench_suffix, "")[:MESSAGE]
        meta: dict[str, Any] = {"mismatches": found[0], "samples": found[1]} if found else {}
        return _verdict(outcome, message, run.seconds, meta)

    def _run(self, task: Task, code: str, hardening: Hardening) -> tuple[SimRun, str]:
        bench: Bench = prepare(task.bench, task.header, task.top, task.reference_name, hardening)
        text, root, suffix = bench.render()
        return self.simulator.run(text, code, root, self.limits), suffix

    def _expectation(self, task: Task) -> _Expected:
        if task.samples is not None:
            return _Expected(task.samples, None, "renamed")
        if task.reference is None:
            return _Expected(None, None, "renamed")
        names = (task.bench, task.header, task.top, task.reference_name, task.reference)
        return self._expected.get(_digest(names), lambda: self._run_reference(task))[0]

    def _run_reference(self, task: Task) -> _Expected:
        for hardening in LEVELS:
            run, _ = self._run(task, task.reference or "", hardening)
            found = counts(run.output)
            if run.compiled and not run.timed_out and found and found[0] == 0 and found[1] > 0:
                return _Expected(found[1], calls(run.program), hardening)
        # A bad reference (see `known_bad`): whatever the bench reports must do.
        return _Expected(None, None, LEVELS[-1])

    def _judge(
        self, task: Task, code: str, run: SimRun, expected: _Expected
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
        if self._warnings(task) and (run.log or run.errors):
            said = run.log + run.errors
            return classify_log(said) or "compile", said, None
        outcome = classify_log(run.log, compiled=run.compiled)
        if outcome or not run.compiled:
            return outcome or "compile", run.log or f"the compiler ended by {run.ended}", None
        if "TIMEOUT" in run.output:
            return "timeout", "the bench's own time limit", counts(run.output)
        found = counts(run.output)
        if found is None:
            how_ended = run.ended if run.ended != "exit" else f"exit code {run.returncode}"
            return "no_result", f"no verdict from the bench ({how_ended})\n{run.errors}", None
        mismatches, samples = found
        if samples <= 0 or (expected.samples is not None and samples != expected.samples):
            return "no_result", f"{samples} samples instead of {expected.samples or 'some'}", found
        if mismatches:
            return classify_mismatch(code), f"{mismatches} mismatches in {samples} samples", found
        return "pass", "", found


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
        timeout: Seconds for compiling and simulating one answer.
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
    timeout: float = Field(30.0, gt=0)
    memory: int = Field(1 << 30, ge=1 << 26)
    warnings_fail: bool | None = None
    partial_credit: bool = False
    timings: bool = False

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
        limits = Limits(wall=self.timeout, cpu=max(5, round(self.timeout)), memory=self.memory)
        return FunctionalJudge(self, VerilogVerifier(self._tool(), limits, self.warnings_fail))


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

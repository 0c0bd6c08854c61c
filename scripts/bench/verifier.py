"""How fast are Verilog checks here?

Runs VerilogEval-Machine's references through the verifier on all cores: with the content
cache and without, with namespaces and with limits alone, and the bare tools for comparison.
The ways are interleaved, round by round, so that what else the machine does hits all alike.

    python scripts/bench/verifier.py ../shared/data/verilogeval [--rounds 3] [--limit 143]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from itercli.data.verilogeval import VerilogEval
from itercli.engine import sandbox
from itercli.records import Prompt
from itercli.verifiers.verilog import Task, VerilogVerifier
from itercli.verifiers.verilog_tools import find_icarus

FLAGS = ["-Wall", "-Winfloop", "-Wno-timescale", "-g2012", "-s", "tb"]


def bare(prompt: Prompt) -> bool:
    """The two tools with nothing around them: what no verifier can beat."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.sv").write_text(f"{prompt.meta['bench']}\n{prompt.reference}")
        quiet = {"cwd": folder, "capture_output": True}
        subprocess.run(["iverilog", *FLAGS, "-o", "x.vvp", "x.sv"], **quiet)  # type: ignore[call-overload]
        done = subprocess.run(["vvp", "-n", "x.vvp", "-none"], **quiet)  # type: ignore[call-overload]
    return b"Mismatches: 0 in" in done.stdout


SAMPLES: dict[str, int] = {}


def checked(verifier: VerilogVerifier, prompt: Prompt) -> bool:
    """One check; the number of samples is given, so the reference is not run a second time."""
    task = replace(Task.of(prompt), samples=SAMPLES[prompt.id])
    return verifier.check_code(task, prompt.reference or "").passed


def empty_job(isolation: sandbox.Isolation, _: Prompt) -> bool:
    """The sandbox around a program that does nothing."""
    with sandbox.tempdir() as folder:
        return sandbox.run(["/bin/true"], cwd=folder, isolation=isolation).returncode == 0


def bare_job(_: Prompt) -> bool:
    """A program that does nothing, without the sandbox."""
    return subprocess.run(["/bin/true"], capture_output=True).returncode == 0


def main() -> None:
    """Print a table of rates."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    prompts = list(VerilogEval(path=options.data, limit=options.limit).prompts())
    best = sandbox.isolation()
    kinds: list[sandbox.Isolation] = ["limits", "namespaces"] if best == "namespaces" else ["limits"]
    tool = find_icarus().version()
    print(f"{len(prompts)} references, {options.workers} workers, {tool}, isolation {best}")

    with ThreadPoolExecutor(options.workers) as pool:
        warm = VerilogVerifier()
        verdicts = pool.map(lambda p: warm.check_code(Task.of(p), p.reference or ""), prompts)
        for prompt, verdict in zip(prompts, verdicts, strict=True):
            SAMPLES[prompt.id] = verdict.meta["samples"]
        cached = VerilogVerifier()
        list(pool.map(partial(checked, cached), prompts))

        def fresh(kind: sandbox.Isolation) -> Callable[[Prompt], bool]:
            return partial(checked, VerilogVerifier(replace(find_icarus(), isolation=kind)))

        ways: dict[str, Callable[[], Callable[[Prompt], bool]]] = {"bare tools": lambda: bare}
        ways |= {f"verifier, {kind}": partial(fresh, kind) for kind in kinds}
        ways["verifier, all cached"] = lambda: partial(checked, cached)
        ways["empty program, bare"] = lambda: bare_job
        ways |= {f"empty program, {kind}": partial(partial, empty_job, kind) for kind in kinds}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, make in ways.items():
                work = make()
                start = time.perf_counter()
                passed = sum(pool.map(work, prompts))
                times[name].append(time.perf_counter() - start)
                assert passed == len(prompts), f"{name}: {len(prompts) - passed} failed"

    print(f"{'':28}{'per second':>12}{'ms each':>10}{'x bare':>8}")
    for name, seconds in times.items():
        middle = sorted(seconds)[len(seconds) // 2]
        base = sorted(times["empty program, bare" if name.startswith("empty") else "bare tools"])
        ratio = middle / base[len(base) // 2]
        each = 1000 * middle / len(prompts) * options.workers
        print(f"{name:28}{len(prompts) / middle:12.1f}{each:10.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()

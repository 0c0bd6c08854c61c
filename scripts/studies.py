"""What the studies share: run what is missing, read metrics, means with intervals over seeds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from itercli.engine.rows import read_rows
from itercli.records import Prompt, Score
from itercli.stages.clusters import cluster_of
from itercli.verifiers.intervals import bootstrap_mean, t_quantile


def run_all(plan: dict[str, list[str]], runs: Path) -> int:
    """Run names with their overrides one after the other; finished stages are reused.

    Returns:
        0, or the exit code of the run that failed.
    """
    for number, (name, overrides) in enumerate(plan.items(), 1):
        started = time.monotonic()
        command = [sys.executable, "-m", "itercli", "run", *overrides]
        done = subprocess.run(
            [*command, "--runs", str(runs), "--name", name, "--plain"], capture_output=True, text=True
        )
        print(f"[{number}/{len(plan)}] {name}: {time.monotonic() - started:.0f} s", flush=True)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return done.returncode
    return 0


def finished(run: Path) -> bool:
    """Whether a run is there and complete."""
    info = run / "run.json"
    return info.is_file() and json.loads(info.read_text())["state"] == "finished"


def metric(run: Path, stage: str, name: str) -> dict[int, float]:
    """Iteration -> value of an evaluation's metric."""
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["stage"] == stage:
            found[entry["iteration"]] = entry["metrics"][name]["value"]
    return found


def interval(values: list[float], digits: int = 3) -> str:
    """Mean and the half-width of its 95 % t interval over seeds."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    few = t_quantile(0.975, len(values) - 1)  # few seeds, so not 1.96
    half = few * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def by_prompt(runs: list[Path], iteration: int) -> dict[str, float]:
    """Prompt id -> mean score of the held-out answers over all runs, after an iteration (0: the start)."""
    node = f"iteration-{iteration:02d}/evaluate.score" if iteration else "before/evaluate.score"
    found: dict[str, list[float]] = {}
    for run in runs:
        for row in read_rows(run / node / "rows.parquet", Score):
            found.setdefault(row.prompt_id, []).append(row.value)
    return {p: sum(v) / len(v) for p, v in found.items()}


def clusters(run: Path, stage: str, fields: Sequence[str]) -> dict[str, str]:
    """Prompt id -> cluster, of the prompts that a stage of a run read; a prompt without one is its own.

    Args:
        stage: Path of the stage's node in the run.
        fields: Meta fields as of a stage's `cluster`.
    """
    nodes = json.loads((run / "run.json").read_text())["nodes"]
    found: dict[str, str] = {}
    for node in nodes[stage]["needs"]:
        if nodes[node]["kind"] == "prompts":
            for row in read_rows(run / node / "rows.parquet", Prompt):
                found[row.id] = cluster_of(row.meta, fields) or row.id
    return found


def mean_difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], of: Mapping[str, str]
) -> tuple[float, float, float]:
    """Mean paired difference over prompts, with its 95 % interval over clusters.

    Args:
        ours, theirs: Prompt id -> mean over seeds.
        of: Prompt id -> cluster; others stand for themselves.
    """
    shared = sorted(ours.keys() & theirs.keys())
    differences = [ours[p] - theirs[p] for p in shared]
    return bootstrap_mean(differences, clusters=[of.get(p, p) for p in shared], resamples=10_000)


def print_gains(there: dict[str, list[Path]], iterations: int, digits: int) -> None:
    """A Markdown table of the gains from step to step, paired by prompt."""
    print("| arm | step | gain |\n|---|---|---|")
    for arm, runs in there.items():
        for p in range(1, iterations + 1):
            a, b = (by_prompt(runs, i) for i in (p - 1, p))
            mean, low, high = mean_difference(b, a, {})
            print(
                f"| {arm} | {p - 1} to {p} | {mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}) |"
            )

"""ITERTL beside its baselines, over seeds and regimes, with one command.

Three regimes: references for every instruction (`all`), for 37 % of them while the others
live from the simulator's verdict (`some`, the paper's claim), and for none (`none`). In each
the iterative loop, the non-iterative baseline and supervised fine-tuning on references take
the same number of optimizer steps. Stages that runs share are computed once; an interrupted
study continues where it was.

    python scripts/study_itertl.py --seeds 3 --runs runs/study
    python scripts/study_itertl.py --regimes none --iterations 6 --seeds 2
    python scripts/study_itertl.py --table          # only the table of what is there
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from itercli.engine.rows import read_rows
from itercli.records import Score
from itercli.verifiers.passk import bootstrap_mean

REGIMES = {
    "all": ["loop.build.selector.targets=reference"],
    "some": ["data.train.reference_fraction=0.37", "loop.build.selector.targets=reference_or_verified"],
    "none": ["data.train.reference_fraction=0", "loop.build.selector.targets=verified"],
}
RECIPES = {"iterative": "itertl", "non-iterative": "itertl_non_iterative", "MLE": "itertl_mle"}
STAGES = ("evaluate", "evaluate_unseen")
# Two-sided 95 % quantiles of Student's t by degrees of freedom (few seeds, so not 1.96).
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


def overrides(regime: str, recipe: str, seed: int, args: argparse.Namespace) -> list[str]:
    """Overrides of one run."""
    special = REGIMES[regime]
    if recipe == "MLE":  # nothing is sampled: only the data's options apply
        special = [o for o in special if o.startswith("data.")]
    return [
        f"recipe={RECIPES[recipe]}",
        f"seed={seed}",
        f"iterations={args.iterations}",
        f"training.max_steps={args.steps}",
        f"data.eval.limit={args.prompts}",
        f"data.unseen.limit={args.prompts // 2}",
        "loop.evaluate.n=4",
        "loop.evaluate.metrics=[pass@1, pass@4]",
        "loop.evaluate_unseen.n=4",
        "loop.evaluate_unseen.metrics=[pass@1, pass@4]",
        *special,
        *args.overrides,
    ]


def name_of(regime: str, recipe: str, seed: int, args: argparse.Namespace) -> str:
    """Run name; says what the run is."""
    return f"{regime}-{recipe}-{args.iterations}x{args.steps}-seed{seed}"


def pass_at_1(run: Path, stage: str) -> dict[int, float]:
    """Iteration -> pass@1 of an evaluation stage."""
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["stage"] == stage:
            found[entry["iteration"]] = entry["metrics"]["pass@1"]["value"]
    return found


def interval(values: list[float]) -> str:
    """Mean and the half-width of its 95 % t interval over seeds."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    half = STUDENT[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.3f} ± {half:.3f}"


def table(args: argparse.Namespace) -> None:
    """Print a Markdown table of everything that is finished."""
    points = sorted({0, 1, args.iterations})
    print(
        "| regime | method | split | seeds | "
        + " | ".join(f"after {p}" if p else "start" for p in points)
        + " |"
    )
    print("|---|---|---|---|" + "---|" * len(points))
    last: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for regime in args.regimes:
        for recipe in RECIPES:
            for stage in STAGES:
                by_seed = {}
                for seed in range(args.seeds):
                    run = args.runs / name_of(regime, recipe, seed, args)
                    if (run / "run.json").is_file() and json.loads((run / "run.json").read_text())[
                        "state"
                    ] == "finished":
                        by_seed[seed] = pass_at_1(run, stage)
                if not by_seed:
                    continue
                cells = [interval([v[p] for v in by_seed.values()]) for p in points]
                split = "held-out" if stage == "evaluate" else "unseen templates"
                print(f"| {regime} | {recipe} | {split} | {len(by_seed)} | " + " | ".join(cells) + " |")
                last.setdefault((regime, stage), {})[recipe] = {
                    seed: v[args.iterations] for seed, v in by_seed.items()
                }
    print(
        "\nDifference in pass@1 after the last iteration. Seeds: mean and 95 % t interval over seeds, paired."
    )
    print("Prompts: mean over seeds per prompt, 95 % bootstrap interval over prompts.\n")
    print("| regime | split | iterative minus | seeds | prompts |")
    print("|---|---|---|---|---|")
    for (regime, stage), methods in last.items():
        for other in ("non-iterative", "MLE"):
            seeds = sorted(methods.get("iterative", {}).keys() & methods.get(other, {}).keys())
            if seeds:
                gaps = [methods["iterative"][s] - methods[other][s] for s in seeds]
                split = "held-out" if stage == "evaluate" else "unseen templates"
                runs = [
                    [args.runs / name_of(regime, m, s, args) for s in seeds] for m in ("iterative", other)
                ]
                a, b = (by_prompt(r, f"iteration-{args.iterations:02d}/{stage}.score") for r in runs)
                mean, low, high = bootstrap_mean([a[p] - b[p] for p in sorted(a)], resamples=10_000)
                print(
                    f"| {regime} | {split} | {other} | {interval(gaps)} "
                    f"| {mean:+.3f} ({low:+.3f} to {high:+.3f}) |"
                )


def by_prompt(runs: list[Path], node: str) -> dict[str, float]:
    """Prompt id -> share of completions that passed, over all runs."""
    verdicts: dict[str, list[bool]] = {}
    for run in runs:
        for row in read_rows(run / node / "rows.parquet", Score):
            verdicts.setdefault(row.prompt_id, []).append(row.passed is True)
    return {p: sum(v) / len(v) for p, v in verdicts.items()}


def main() -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=16, help="optimizer steps per iteration, for all methods"
    )
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts; half as many unseen ones")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", help="further overrides for all runs")
    args = parser.parse_args()
    plan = [
        (regime, recipe, seed)
        for seed in range(args.seeds)  # a study cut short has whole seeds
        for regime in args.regimes
        for recipe in RECIPES
        if not (regime == "none" and recipe == "MLE")  # no references, nothing to imitate
    ]
    for number, (regime, recipe, seed) in enumerate([] if args.table else plan, 1):
        name = name_of(regime, recipe, seed, args)
        started = time.monotonic()
        command = [sys.executable, "-m", "itercli.cli.main", "run", *overrides(regime, recipe, seed, args)]
        done = subprocess.run(
            [*command, "--runs", str(args.runs), "--name", name, "--plain"], capture_output=True, text=True
        )
        print(f"[{number}/{len(plan)}] {name}: {time.monotonic() - started:.0f} s", flush=True)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return done.returncode
    table(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())

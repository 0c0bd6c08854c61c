"""ITERTL beside its baselines, over seeds and regimes, with one command.

Three regimes: references for every instruction (`all`), for 37 % of them while the others
live from the simulator's verdict (`some`), and for none (`none`). In each
the iterative loop, the non-iterative baseline and supervised fine-tuning on references take
the same number of optimizer steps. The baseline samples as many candidates of an instruction from
the start model as the loop does in all its iterations, so that what differs is whether they are
fresh, and not how many they are; `one-round` has those of one iteration. Stages that runs share
are computed once; an interrupted study continues where it was.

    python scripts/study_itertl.py --seeds 3 --runs runs/study
    python scripts/study_itertl.py --regimes none --iterations 6 --seeds 2
    python scripts/study_itertl.py --arms iterative one-round MLE
    python scripts/study_itertl.py --table          # only the table of what is there
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from studies import clusters, finished, interval, mean_difference, metric, run_all

from itercli.engine.rows import read_rows
from itercli.records import Score

REGIMES = {
    "all": ["loop.build.selector.targets=reference"],
    "some": ["data.train.reference_fraction=0.37", "loop.build.selector.targets=reference_or_verified"],
    "none": ["data.train.reference_fraction=0", "loop.build.selector.targets=verified"],
}
ARMS = {
    "iterative": "itertl",
    "non-iterative": "itertl_non_iterative",
    "one-round": "itertl_non_iterative",
    "MLE": "itertl_mle",
}
CANDIDATES = 4  # of an instruction in an iteration
STAGES = ("evaluate", "evaluate_unseen")


def overrides(regime: str, recipe: str, seed: int, args: argparse.Namespace) -> list[str]:
    """Overrides of one run."""
    special = REGIMES[regime]
    if recipe == "MLE":  # nothing is sampled: only the data's options apply
        special = [o for o in special if o.startswith("data.")]
    else:
        rounds = args.iterations if recipe == "non-iterative" else 1
        special = [f"loop.sample.n={CANDIDATES * rounds}", *special]
    return [
        f"recipe={ARMS[recipe]}",
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
    # What `one-round` is now was the only baseline once, under its name.
    called = {"one-round": "non-iterative", "non-iterative": "non-iterative-equal"}.get(recipe, recipe)
    return f"{regime}-{called}-{args.iterations}x{args.steps}-seed{seed}"


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
        for recipe in args.arms:
            for stage in STAGES:
                by_seed = {}
                for seed in range(args.seeds):
                    run = args.runs / name_of(regime, recipe, seed, args)
                    if finished(run):
                        by_seed[seed] = metric(run, stage, "pass@1")
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
    print("Prompts: mean over seeds per prompt, 95 % bootstrap interval over the prompts' templates.\n")
    print("| regime | split | iterative minus | seeds | prompts |")
    print("|---|---|---|---|---|")
    for (regime, stage), methods in last.items():
        for other in ("non-iterative", "one-round", "MLE"):
            seeds = sorted(methods.get("iterative", {}).keys() & methods.get(other, {}).keys())
            if seeds:
                gaps = [methods["iterative"][s] - methods[other][s] for s in seeds]
                split = "held-out" if stage == "evaluate" else "unseen templates"
                runs = [
                    [args.runs / name_of(regime, m, s, args) for s in seeds] for m in ("iterative", other)
                ]
                node = f"iteration-{args.iterations:02d}/{stage}.score"
                a, b = (by_prompt(r, node) for r in runs)
                mean, low, high = mean_difference(a, b, clusters(runs[0][0], node, ["template"]))
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
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=["iterative", "non-iterative", "MLE"], help="methods"
    )
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=16, help="optimizer steps per iteration, for all methods"
    )
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts; half as many unseen ones")
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", help="further overrides for all runs")
    args = parser.parse_args()
    plan = {
        name_of(regime, recipe, seed, args): overrides(regime, recipe, seed, args)
        for seed in range(args.seeds)  # a study cut short has whole seeds
        for regime in args.regimes
        for recipe in args.arms
        if not (regime == "none" and recipe == "MLE")  # no references, nothing to imitate
    }
    code = 0 if args.table else run_all(plan, args.runs)
    table(args)
    return code


if __name__ == "__main__":
    sys.exit(main())

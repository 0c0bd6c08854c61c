"""UPO over seeds beside its selections and ablations: true reward by iteration, noise of the kept pairs.

Runs share what they have in common (reward model, estimator, the first iteration's pairs). An
interrupted study continues where it was.

    python scripts/study_upo.py --seeds 3 --runs runs/study
    python scripts/study_upo.py --arms UPO random          # only these
    python scripts/study_upo.py --table                    # only the tables of what is there
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from studies import finished, interval, metric, print_gains, run_all

ARMS = {
    "UPO": [],
    "random": ["loop.pairs.selection=random"],
    "no alpha": ["loop.pairs.alpha=none"],
    "no rule": ["loop.candidates.rule=all_ordered"],
    "no NLL": ["loop.train.method.nll_weight=0"],
}
EVALUATED = {"mean_score": 3, "words": 1, "distinct_words": 3}
NOISE = ("noise_all", "noise_agreed", "noise_uncertainty", "noise_random", "noise_margin", "noise_cb_rr")
JUDGES = ("estimator_accuracy", "accuracy_sure", "accuracy_unsure", "swap_consistency")


def name_of(arm: str, seed: int) -> str:
    """Run name; says what the run is."""
    return f"upo-{arm.replace(' ', '_')}-seed{seed}"


def evaluations(there: dict[str, list[Path]], iterations: int) -> None:
    """True reward, words and variety by iteration, means over seeds."""
    head = " | ".join("start" if p == 0 else f"after {p}" for p in range(iterations + 1))
    print(f"| arm | metric | seeds | {head} |\n|---|---|---|" + "---|" * (iterations + 1))
    for arm, runs in there.items():
        for name, digits in EVALUATED.items():
            series = [metric(run, "evaluate", name) for run in runs]
            cells = " | ".join(interval([s[p] for s in series], digits) for p in range(iterations + 1))
            print(f"| {arm} | {name} | {len(series)} | {cells} |")
    print(
        "\nGains in true reward from step to step, paired by prompt; 95 % bootstrap interval over prompts:\n"
    )
    print_gains(there, iterations, 3)


def judges(runs: list[Path], iterations: int) -> None:
    """Noise of the pairs by selection, and how good the estimator is, in the arm UPO."""
    print("\n| share of wrong labels | " + " | ".join(f"seed {run.name[-1]}" for run in runs) + " | mean |")
    print("|---|" + "---|" * (len(runs) + 1))
    for name in (*NOISE, *JUDGES):
        means = []
        for run in runs:
            found = _noise(run, name)
            means.append(sum(found) / len(found) if found else float("nan"))
        print(f"| {name} | " + " | ".join(f"{m:.3f}" for m in means) + f" | {sum(means) / len(means):.3f} |")
    print(f"\nMeans over the {iterations} iterations of each run.")


def _noise(run: Path, name: str) -> list[float]:
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["stage"] == "noise" and name in entry["metrics"]:
            found.append(entry["metrics"][name]["value"])
    return found


def main() -> int:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--set", nargs="*", default=[], help="further overrides for all runs")
    args = parser.parse_args()
    plan = {
        name_of(arm, seed): [
            "recipe=upo", f"seed={seed}", f"iterations={args.iterations}", *ARMS[arm], *args.set
        ]
        for seed in range(args.seeds)
        for arm in args.arms
    }  # fmt: skip
    code = 0 if args.table else run_all(plan, args.runs)
    there = {
        arm: [run for seed in range(args.seeds) if finished(run := args.runs / name_of(arm, seed))]
        for arm in args.arms
    }
    evaluations({arm: runs for arm, runs in there.items() if runs}, args.iterations)
    if there.get("UPO"):
        judges(there["UPO"], args.iterations)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Agent-R over seeds beside other data from the same searches: success and recovery by iteration.

Every arm but one takes the same number of optimizer steps. The first iteration's searches are shared by all
arms of a seed, and so are the bad starts, which are the start model's. An interrupted study
continues where it was.

    python scripts/study_agent_r.py --seeds 3 --runs runs/study
    python scripts/study_agent_r.py --table                # only the tables of what is there
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from studies import clusters, finished, interval, mean_difference, metric, run_all

from itercli.engine.rows import read_rows
from itercli.records import Episode

ARMS = {
    "Agent-R": [],
    "direct revision": ["loop.judge.judge=none"],
    "optimal only": ["loop.revise.data=optimal_only"],
    # Fewer dialogues, so that equal steps are more epochs: this one takes the recipe's.
    "optimal only, fewer steps": ["loop.revise.data=optimal_only", "training.max_steps=null"],
    "RFT": ["loop.revise.data=rft"],
    # What the games in other books do by themselves: one in twenty dialogues is of the searched tasks.
    "general games": ["loop.revise.data=optimal_only", "loop.mix.share=0.05"],
}
# More than the recipe, which is to end within minutes.
SIZE = ["data.train.limit=140", "before.bad_starts.per_task=3"]
# Stage with the metrics -> stage with the episodes.
MEASURED = {"evaluate": "rollout", "recovery": "recover"}


def name_of(arm: str, seed: int) -> str:
    """Run name; says what the run is."""
    return f"agent_r-{arm.replace(',', '').replace(' ', '_')}-seed{seed}"


def successes(runs: list[Path], stage: str, iteration: int) -> dict[str, float]:
    """Goal -> mean over seeds of the share of its episodes that reached it.

    Over seeds first: a goal is hard or easy in all of them. Bad starts are each seed's own, but
    those of one goal go together.
    """
    node = f"iteration-{iteration:02d}/{stage}" if iteration else f"before/{stage}"
    found: dict[str, list[float]] = {}
    for run in runs:
        goals = clusters(run, node, ["of"])
        of_seed: dict[str, list[float]] = {}
        for row in read_rows(run / node / "rows.parquet", Episode):
            of_seed.setdefault(goals.get(row.prompt_id, row.prompt_id), []).append(float(row.score >= 1))
        for goal, values in of_seed.items():
            found.setdefault(goal, []).append(sum(values) / len(values))
    return {goal: sum(v) / len(v) for goal, v in found.items()}


def by_iteration(there: dict[str, list[Path]], iterations: int) -> None:
    """Success, recovery and turns, means over seeds."""
    head = " | ".join("start" if p == 0 else f"after {p}" for p in range(iterations + 1))
    print(f"| arm | metric | seeds | {head} |\n|---|---|---|" + "---|" * (iterations + 1))
    for arm, runs in there.items():
        for stage in MEASURED:
            for name, digits in {"success": 3, "turns": 1}.items():
                series = [metric(run, stage, name) for run in runs]
                cells = " | ".join(interval([s[p] for s in series], digits) for p in range(iterations + 1))
                what = f"{'recovery' if stage == 'recovery' else 'held-out'} {name}"
                print(f"| {arm} | {what} | {len(series)} | {cells} |")


def differences(there: dict[str, list[Path]], iterations: int) -> None:
    """Agent-R less each other arm, after the last iteration, paired by goal."""
    print(
        "\nAgent-R minus another arm after the last iteration; means over goals (over seeds first) with 95 %"
    )
    print("bootstrap intervals, and over seeds with t intervals:\n")
    print("| minus | metric | goals | seeds |\n|---|---|---|---|")
    ours = there.get("Agent-R", [])
    for arm, runs in there.items():
        if arm == "Agent-R" or len(runs) != len(ours):
            continue
        for stage, episodes in MEASURED.items():
            a, b = (successes(r, episodes, iterations) for r in (ours, runs))
            mean, low, high = mean_difference(a, b, {})
            pairs = zip(ours, runs, strict=True)
            last = [
                metric(x, stage, "success")[iterations] - metric(y, stage, "success")[iterations]
                for x, y in pairs
            ]
            what = "recovery" if stage == "recovery" else "held-out"
            print(f"| {arm} | {what} | {mean:+.3f} ({low:+.3f} to {high:+.3f}) | {interval(last)} |")


def main() -> int:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--steps", type=int, default=64, help="optimizer steps of an iteration")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--set", nargs="*", default=[], help="further overrides for all runs")
    args = parser.parse_args()
    size = [f"iterations={args.iterations}", f"training.max_steps={args.steps}", *SIZE]
    plan = {
        name_of(arm, seed): ["recipe=agent_r", f"seed={seed}", *size, *ARMS[arm], *args.set]
        for seed in range(args.seeds)
        for arm in args.arms
    }
    code = 0 if args.table else run_all(plan, args.runs)
    there = {
        arm: [run for seed in range(args.seeds) if finished(run := args.runs / name_of(arm, seed))]
        for arm in args.arms
    }
    there = {arm: runs for arm, runs in there.items() if runs}
    by_iteration(there, args.iterations)
    differences(there, args.iterations)
    return code


if __name__ == "__main__":
    sys.exit(main())

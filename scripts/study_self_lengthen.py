"""Self-Lengthen beside best-of-n without an extender, over seeds, with one command.

Best of n draws about half as many tokens again. An interrupted study continues where it was.

    python scripts/study_self_lengthen.py --seeds 3 --runs runs/study
    python scripts/study_self_lengthen.py --table          # only the table of what is there
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from studies import finished, interval, metric, print_gains, run_all

ARMS = {"Self-Lengthen": "self_lengthen", "best of n": "self_lengthen_best_of_n"}
# The default run is made to end within ten minutes; this is what it takes to tell the arms apart.
SIZE = ("loop.propose.n=14", "loop.respond.max_new_tokens=320", "training.epochs=3", "data.eval.limit=32")
METRICS = {"words": 1, "rep_4": 4, "longest_repeat": 2, "finished": 2}


def name_of(arm: str, seed: int, iterations: int) -> str:
    """Run name; says what the run is."""
    return f"{ARMS[arm]}-{iterations}-seed{seed}"


def drawn(run: Path) -> int:
    """Tokens that the loop drew, evaluations aside."""
    nodes = json.loads((run / "run.json").read_text())["nodes"]
    total = 0
    for node in nodes:
        name = node.partition("/")[2]
        manifest = run / node / "manifest.json"
        if name in ("propose", "respond", "extend") and manifest.is_file():
            total += json.loads(manifest.read_text())["counts"].get("tokens", 0)
    return total


def table(args: argparse.Namespace) -> None:
    """Print Markdown tables of everything that is finished."""
    points = range(args.iterations + 1)
    head = " | ".join("start" if p == 0 else f"after {p}" for p in points)
    print(f"| arm | metric | seeds | {head} |\n|---|---|---|" + "---|" * len(points))
    there: dict[str, dict[int, Path]] = {}
    for arm in ARMS:
        runs = {seed: args.runs / name_of(arm, seed, args.iterations) for seed in range(args.seeds)}
        there[arm] = {seed: run for seed, run in runs.items() if finished(run)}
        for name, digits in METRICS.items() if there[arm] else ():
            series = [metric(run, "evaluate", name) for run in there[arm].values()]
            cells = " | ".join(interval([s[p] for s in series], digits) for p in points)
            print(f"| {arm} | {name} | {len(series)} | {cells} |")
    print("\nGains in words from step to step, paired by prompt; 95 % bootstrap interval over prompts:\n")
    print_gains({arm: list(runs_.values()) for arm, runs_ in there.items() if runs_}, args.iterations, 1)
    for arm, runs_ in there.items():
        tokens = [drawn(run) for run in runs_.values()]
        if tokens:
            print(f"\n{arm}: {sum(tokens) / len(tokens):,.0f} tokens drawn per run, evaluations aside")


def main() -> int:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/study"))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", help="further overrides for all runs")
    args = parser.parse_args()
    plan = {
        name_of(arm, seed, args.iterations): [
            f"recipe={recipe}",
            f"seed={seed}",
            f"iterations={args.iterations}",
            *SIZE,
            *args.overrides,
        ]
        for arm, recipe in ARMS.items()
        for seed in range(args.seeds)
    }
    code = 0 if args.table else run_all(plan, args.runs)
    table(args)
    return code


if __name__ == "__main__":
    sys.exit(main())

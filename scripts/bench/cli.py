"""How long the commands that people wait for take, beside a bare interpreter in the same run.

    python scripts/bench/cli.py [-n 7]

Prints the median and the worst of N runs in turn (so that a busy machine hits all alike)
and the ratio of the medians to `python -c pass`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ITER = [sys.executable, "-m", "itercli"]
SMALL = [
    "recipe=itertl", "iterations=1", "sampler=transformers", "data.train.limit=8", "data.eval.limit=4",
    "data.unseen.limit=4", "loop.evaluate.n=1", "loop.evaluate.metrics=[pass@1]",
    "loop.evaluate_unseen.n=1", "loop.evaluate_unseen.metrics=[pass@1]",
]  # fmt: skip


def seconds(command: list[str]) -> float:
    """Wall time of one run of a command."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=7, help="runs of each command")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = [*ITER, "run", *SMALL, "--runs", str(Path(folder) / "runs")]
        print("making a small finished run ...", flush=True)
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        # Command and its limit in seconds (None: the yardstick).
        commands: dict[str, tuple[list[str], float | None]] = {
            "python -c pass": ([sys.executable, "-c", "pass"], None),
            "iter --help": ([*ITER, "--help"], 0.3),
            "iter plan recipe=itertl": ([*ITER, "plan", "recipe=itertl"], 1.0),
            "finished run again": (run, 2.0),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.n):
            for name, (command, _limit) in commands.items():
                times[name].append(seconds(command))
    bare = statistics.median(times["python -c pass"])
    print(f"{'command':<26} {'median s':>9} {'worst s':>8} {'x bare':>7} {'limit s':>8}")
    for name, (_, limit) in commands.items():
        median = statistics.median(times[name])
        shown = f"{limit:.1f}" if limit else ""
        print(f"{name:<26} {median:>9.3f} {max(times[name]):>8.3f} {median / bare:>7.1f} {shown:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

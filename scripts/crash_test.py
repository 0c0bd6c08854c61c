"""Kill a run again and again until it is finished, and compare it with an undisturbed one.

The recipe is run once undisturbed. Then it is started, its whole process group is killed
(SIGKILL, or SIGTERM with --term), and started again, N times in all; the last time it may
finish. Every fifth kill comes at a random moment after the start; two of five come just before
or after a random sync or rename of any of the run's processes; the others come at a random
moment after the first new row, checkpoint or finished stage, so that they hit work and not
only the loading of libraries, however slow the machine is. Passed if

* every artifact has the same bytes as in the undisturbed run (rows, adapters, weights),
* no finished stage was done a second time,
* no row that was in a journal before a kill is missing after it (so at most the rows in
  flight, and on a power cut two seconds of rows, are done twice).

With --stages, kills are aimed: each waits until a stage of that name (the next of the list)
has left a new journal row or checkpoint and is still under way. A stage that was under way
at none of the kills is a problem.

    python scripts/crash_test.py -n 20
    python scripts/crash_test.py -n 3 --term -- recipe=itertl iterations=1
    python scripts/crash_test.py --recipe self_lengthen -n 8 \
        --stages propose,extend,train_generator,train_extender
    python scripts/crash_test.py --recipe upo -n 5 \
        --stages train_reward,train_estimator,reward,estimate,train
    python scripts/crash_test.py --recipe agent_r -n 8 --stages search,judge,revise,train

Exit code 0 if all holds, 1 if not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crash_points import Points
from crash_traces import events, journals, manifests, resumed_trainings, traces, under_way, unfinished

# Accepts all that a model without English can write.
ANYTHING = "{closing: '', meta_words: [], ngram: 0}"

SMALL = {
    "itertl": [
        "recipe=itertl",
        "iterations=2",
        "sampler=transformers",
        "data.train.limit=32",
        "data.eval.limit=12",
        "data.unseen.limit=8",
        "loop.sample.max_new_tokens=96",
        "loop.evaluate.n=2",
        "loop.evaluate.metrics=[pass@1]",
        "loop.evaluate_unseen.n=2",
        "loop.evaluate_unseen.metrics=[pass@1]",
        # Many short steps: kills should find checkpoints, and steps after the last one.
        "training.batch_size=2",
        "training.checkpoint_seconds=0.5",
    ],
    # The tiny model answers with Verilog, which is good enough to be extended and learned.
    "self_lengthen": [
        "recipe=self_lengthen",
        "model=tiny-rtl",
        "iterations=2",
        "sampler=transformers",
        "sampler.batch_size=8",
        "data.eval.limit=2",
        "loop.propose.n=12",
        "loop.propose.suits=0",
        "loop.propose.words=[0, 500]",
        "loop.propose.max_new_tokens=32",
        f"loop.respond.accept={ANYTHING}",
        "loop.respond.finished=false",
        "loop.respond.max_new_tokens=32",
        f"loop.extend.accept={ANYTHING}",
        "loop.extend.finished=false",
        "loop.extend.growth=1",
        "loop.extend.max_new_tokens=48",
        "loop.evaluate.max_new_tokens=32",
        "loop.evaluate.metrics=[words]",
        "training.max_steps=8",
        "training.checkpoint_steps=2",
        "training.threads=1",
    ],
    # Rewards that mean nothing, of models that learn nothing: what counts is that each stage is long.
    "upo": [
        "recipe=upo",
        "model=tiny-rtl",
        "roles.reward.path=tiny-rtl",
        "roles.estimator.path=tiny-rtl",
        "iterations=2",
        "sampler=transformers",
        "sampler.batch_size=16",
        "data.truth={name: text}",
        "data.labelled.limit=6",
        "data.train.limit=16",
        "data.eval.limit=2",
        "before.train_reward.training.batch_size=2",
        "before.train_reward.training.checkpoint_steps=2",
        "before.train_reward.training.threads=1",
        "before.train_estimator.training.batch_size=2",
        "before.train_estimator.training.checkpoint_steps=2",
        "before.train_estimator.training.threads=1",
        "loop.sample.max_new_tokens=24",
        "loop.reward.batch_tokens=64",
        "loop.estimate.passes=4",
        "loop.estimate.batch_tokens=512",
        "loop.evaluate.max_new_tokens=24",
        "loop.evaluate.metrics=[words]",
        "headline=evaluate.words",
        "training.batch_size=1",
        "training.checkpoint_steps=1",
        "training.threads=1",
    ],
    # The tiny model's verdicts can't be read, so that bad paths stay whole and make many revisions to replay.
    "agent_r": [
        "recipe=agent_r",
        "iterations=2",
        "sampler=transformers",
        "data.train.max_depth=1",
        "data.train.limit=8",
        "data.eval.limit=2",
        "before.attempts.max_turns=4",
        "before.attempts.max_new_tokens=24",
        "before.bad_starts.min_steps=1",
        "before.bad_starts.solvable=false",
        "loop.search.simulations=4",
        "loop.search.max_depth=8",
        "loop.search.max_new_tokens=24",
        "loop.judge.judge=actor",
        "loop.judge.unreadable=uncertain",
        "loop.judge.alpha=[0.5]",
        "loop.judge.max_pairs=null",
        "loop.judge.max_new_tokens=4",
        "loop.rollout.max_turns=4",
        "loop.rollout.max_new_tokens=24",
        "loop.recover.max_turns=4",
        "loop.recover.max_new_tokens=24",
        "training.batch_size=2",
        "training.max_steps=8",
        "training.checkpoint_steps=1",
        "training.threads=1",
    ],
}


@dataclass
class Kill:
    """One attempt: how it ended, and what was lost."""

    number: int
    after: float
    ended: str
    stage: str
    rows_before: int
    lost_rows: int = 0


@dataclass
class Report:
    """Everything that the table shows."""

    kills: list[Kill] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def start(
    overrides: list[str], runs: Path, log: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the run in a process group of its own."""
    with open(log, "ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "itercli", "run", *overrides, "--runs", str(runs), "--plain"],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=env,
        )


def pause(process: subprocess.Popen[bytes], seconds: float, runs: Path | None = None) -> None:
    """Wait for the seconds to pass (with `runs`: after the next trace of work) or the end."""
    before = traces(runs) if runs else {}
    while runs and process.poll() is None and traces(runs) == before:
        time.sleep(0.05)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def aim(stages: list[str], number: int, runs: Path) -> str | None:
    """The stage for a kill: the next of the list that is not finished in all iterations."""
    if not any(runs.glob("*/run.json")):
        return stages[0]
    left = [stages[(number - 1 + i) % len(stages)] for i in range(len(stages))]
    return next((s for s in left if s in unfinished(runs)), None)


def pause_for(process: subprocess.Popen[bytes], stage: str, runs: Path) -> None:
    """Wait until the stage, of whatever iteration, has left a new trace, or for the end."""
    before = traces(runs)
    while process.poll() is None:
        for node, key in under_way(runs).items():
            if node.rpartition("/")[2] == stage and traces(runs, key).items() - before.items():
                return
        time.sleep(0.02)


def disturb(
    args: argparse.Namespace,
    overrides: list[str],
    runs: Path,
    usual: float,
    points: Points,
    operations: dict[str, int],
    report: Report,
) -> None:
    """Kill `args.kills` times, then let it finish.

    Args:
        usual: Seconds of the undisturbed run.
        operations: Its syncs and renames, see `Points.counts`.
    """
    rng = random.Random(args.seed)
    signum = signal.SIGTERM if args.term else signal.SIGKILL
    log = runs.parent / "disturbed.log"
    for number in range(1, args.kills + 1):
        aimed = aim(args.stages, number, runs) if args.stages else None
        if args.stages and aimed is None:
            break  # nothing is left to aim at
        before = journals(runs)
        kind, at = {2: "fsync", 4: "rename"}.get(number % 5, ""), 0
        if kind and not aimed:
            at = rng.choice((1, -1)) * rng.randint(1, max(2 * operations[kind] // args.kills, 10))
        process = start(overrides, runs, log, points.environment(kind, at, signum))
        started = time.monotonic()
        if at:
            process.wait()
        elif aimed:
            pause_for(process, aimed, runs)
            pause(process, rng.uniform(0.0, 0.1))
        elif number % 5 == 0:
            pause(process, rng.uniform(0.1, 6.0))
        else:
            pause(process, rng.uniform(0.0, usual / args.kills), runs)
        after = time.monotonic() - started
        if process.poll() is None:
            os.killpg(process.pid, signum)
            code = process.wait(120)
            ended = signal.Signals(signum).name
            if args.term and code not in (143, -signal.SIGTERM, 0):
                report.problems.append(f"attempt {number}: exit code {code} after SIGTERM")
        elif process.returncode in (-signum, 128 + signum):
            ended = f"{'after' if at > 0 else 'before'} {kind} {abs(at)}"
        else:
            ended = f"finished ({process.returncode})"
            if process.returncode != 0:
                report.problems.append(f"attempt {number}: the run failed, see {log}")
        time.sleep(0.3)  # the kernel takes the workers down with their parent
        stage = "-" if ended.startswith("finished") else ", ".join(under_way(runs)) or "-"
        kept = journals(runs)
        done = manifests(runs)
        lost = 0
        for artifact, lines in before.items():
            if artifact not in done:
                lost += len(lines - kept.get(artifact, set()))
        rows = sum(map(len, kept.values()))
        report.kills.append(Kill(number, after, ended, stage, rows, lost))
        if lost:
            report.problems.append(f"attempt {number}: {lost} journaled rows are gone")
    hit = {node.rpartition("/")[2] for kill in report.kills for node in kill.stage.split(", ")}
    for stage in sorted(set(args.stages) - hit):
        report.problems.append(f"no kill found {stage} under way: {args.kills} kills may be too few")
    process = start(overrides, runs, log)
    if process.wait() != 0:
        report.problems.append(f"the last attempt failed, see {log}")


def main() -> int:
    """Run the test and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--kills", type=int, default=20, help="how often to kill (20)")
    parser.add_argument("--term", action="store_true", help="SIGTERM instead of SIGKILL")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--keep", type=Path, help="work in this folder and keep it")
    parser.add_argument("--recipe", choices=sorted(SMALL), help="a small run of it (itertl)")
    parser.add_argument(
        "--stages", type=lambda s: s.split(","), default=[], help="aim at these stages in turn: a,b,..."
    )
    parser.add_argument("overrides", nargs="*", help="added to --recipe; without it all that is run")
    args = parser.parse_args()
    overrides = args.overrides
    if args.recipe or not overrides:
        overrides = [*SMALL[args.recipe or "itertl"], *overrides]
    with tempfile.TemporaryDirectory(prefix="itercli-crash-") as scratch:
        folder = args.keep or Path(scratch)
        calm, wild = folder / "calm", folder / "wild"
        for path in (calm, wild):
            path.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        points = Points(folder / "points")
        if start(overrides, calm, folder / "calm.log", points.environment()).wait() != 0:
            print((folder / "calm.log").read_text()[-3000:], file=sys.stderr)
            return 1
        usual = time.monotonic() - started
        operations = points.counts
        done = ", ".join(f"{count} {kind}s" for kind, count in operations.items())
        print(f"undisturbed: {usual:.0f} s, {len(manifests(calm))} artifacts, {done}", flush=True)
        report = Report()
        disturb(args, overrides, wild, usual, points, operations, report)

        want, got = manifests(calm), manifests(wild)
        for artifact in sorted(want.keys() | got.keys()):
            if want.get(artifact) != got.get(artifact):
                report.problems.append(f"{artifact}: differs from the undisturbed run")
        finished = Counter(e["key"] for e in events(wild) if e["event"] == "stage_finished")
        again = {k: n for k, n in finished.items() if n > 1}
        for key, n in again.items():
            report.problems.append(f"stage {key} was finished {n} times")
        resumed = [e["rows"] for e in events(wild) if e["event"] == "journal_opened" and e["rows"]]

        print(f"{'kill':>4} {'after s':>8} {'how':<18} {'journaled':>9} {'lost':>5}  under way")
        for k in report.kills:
            print(
                f"{k.number:>4} {k.after:>8.2f} {k.ended:<18} {k.rows_before:>9} {k.lost_rows:>5}  {k.stage}"
            )
        same = sum(want.get(a) == got.get(a) for a in want)
        print(f"artifacts equal byte for byte: {same} of {len(want)}")
        print(
            f"stages done twice: {len(again)}; row stages resumed from a journal: {len(resumed)}; "
            f"trainings resumed from a checkpoint: {resumed_trainings(wild)}; "
            f"journaled rows lost: {sum(k.lost_rows for k in report.kills)}"
        )
        for problem in report.problems:
            print(f"PROBLEM {problem}")
        print("FAILED" if report.problems else "PASSED")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Draw the labelled answers that ship with the `stories` source, from SmolLM2-135M-Instruct.

They stand for the preference data that a loop starts from: texts of the start model, to be
labelled by whoever knows the true reward. Drawn once, so that a run need not. Seeded; about
five minutes on two cores.

    python scripts/draw_stories.py
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from itercli.data.stories import ANSWERS
from itercli.engine.rows import read_rows
from itercli.records import Trajectory

RECIPE = """# @package _global_
defaults:
  - override /model: smollm2-135m
  - override /sampler: auto_bf16
name: draw_stories
iterations: 0
roles: {policy: "${model}"}
before:
  answers:
    uses: sample
    role: policy
    prompts: {name: stories, split: labelled, limit: LIMIT}
    n: N
    temperature: 1.0
    max_new_tokens: 48
"""


def main() -> int:
    """Draw, then write the file anew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=384)
    parser.add_argument("-n", type=int, default=4, help="answers of each prompt")
    parser.add_argument("--runs", type=Path, help="keep the run here, to go on after a stop")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "draw_stories.yaml"
        recipe.write_text(RECIPE.replace("LIMIT", str(args.prompts)).replace("n: N", f"n: {args.n}"))
        runs = args.runs or Path(scratch) / "runs"
        options = ["--runs", str(runs), "--name", "draw_stories"]
        subprocess.run([sys.executable, "-m", "itercli", "run", f"recipe={recipe}", *options], check=True)
        rows = list(read_rows(runs / "draw_stories/before/answers/rows.parquet", Trajectory))
    answers: dict[str, list[Trajectory]] = {}
    for row in rows:
        answers.setdefault(row.prompt_id, []).append(row)
    lines = [
        json.dumps(
            {"id": i, "answers": [a.completion for a in made], "finish": [a.finish for a in made]},
            ensure_ascii=False,
        )
        for i, made in answers.items()
    ]
    with gzip.GzipFile(ANSWERS, "wb", mtime=0) as file:  # the same bytes each time
        file.write(("\n".join(lines) + "\n").encode())
    print(f"{ANSWERS}: {len(rows)} answers to {len(answers)} openings, {ANSWERS.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

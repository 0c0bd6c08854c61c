"""Training throughput: our trainer beside a bare PyTorch loop on the same rows.

    python scripts/bench/training.py [--hidden 128] [--steps 12] [--threads 1]

Both do the same supervised steps (same batches, same micro-batches, AdamW, clipping) and take
turns, so a busy machine slows both; the ratio is what counts. `ranking` shows what K candidates
cost in the joint and in the split form.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]


def bare_loop(model: Any, steps: list[list[Any]], micro: int, lr: float) -> float:
    """Tokens per second of the loop that one would write by hand, padding as it comes."""
    import torch
    import torch.nn.functional as F

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, fused=True)
    tokens, started = 0, time.perf_counter()
    for step in steps:
        total = sum(g.rows[0].response_len for g in step)
        for i in range(0, len(step), micro):
            rows = [g.rows[0] for g in step[i : i + micro]]
            length = max(len(r.ids) for r in rows)
            ids = torch.zeros(len(rows), length, dtype=torch.long)
            labels = torch.full((len(rows), length), -100)
            for j, row in enumerate(rows):
                ids[j, : len(row.ids)] = torch.from_numpy(row.ids)
                labels[j, row.prompt_len : len(row.ids)] = torch.from_numpy(row.ids[row.prompt_len :])
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / total
            loss.backward()
            tokens += sum(len(r.ids) for r in rows)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return tokens / (time.perf_counter() - started)


def ours(
    model: Any, steps: list[list[Any]], args: argparse.Namespace, objective: Any, split: bool = False
) -> float:
    """Tokens per second of `StepTrainer.train`, its start-up included."""
    from itercli.training.arguments import training_arguments
    from itercli.training.base import TrainingSpec
    from itercli.training.checkpoints import Checkpoints
    from itercli.training.hf import StepTrainer

    with tempfile.TemporaryDirectory() as folder:
        spec = TrainingSpec(lr=1e-3, schedule="constant", dtype="float32")
        trainer = StepTrainer(
            model,
            training_arguments(spec, steps=len(steps), seed=0, folder=Path(folder)),
            steps,
            objective,
            micro_batch_size=args.micro,
            split=split,
            checkpoints=Checkpoints(Path(folder), "bench"),
        )
        started = time.perf_counter()
        trainer.train()
        return sum(len(r.ids) for s in steps for g in s for r in g.rows) / (time.perf_counter() - started)


def main() -> None:
    """Run and print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    import numpy as np
    import torch
    from tiny import tiny_llama

    from itercli.training.collate import Group, Row
    from itercli.training.losses import RankingObjective, SftObjective

    rng = random.Random(0)

    def row(prompt: int) -> Row:
        length = prompt + min(400, 30 + int(rng.expovariate(1 / 90)))  # as skewed as short modules are
        return Row(np.array([rng.randrange(3, 259) for _ in range(length)], dtype=np.int32), prompt)

    def group(k: int) -> Group:
        prompt = rng.randrange(40, 90)
        return Group("p", tuple(row(prompt) for _ in range(k)), tuple(i / k for i in range(k)), k - 1)

    sft = [[group(1) for _ in range(args.batch)] for _ in range(args.steps)]
    ranked = [[group(4) for _ in range(args.batch)] for _ in range(max(1, args.steps // 4))]
    ranking = RankingObjective(1.0, 1.0, 0.2, 0.3, "response", "sum")

    def model() -> Any:
        made = tiny_llama(hidden=args.hidden, layers=args.layers)
        torch.set_num_threads(args.threads)
        return made

    print(f"{sum(p.numel() for p in model().parameters()) / 1e6:.2f}M parameters, {args.threads} thread(s)")
    bare_loop(model(), sft[:1], args.micro, 1e-3)  # warm-up
    rates: dict[str, list[float]] = {"bare": [], "sft": [], "ranking joint": [], "ranking split": []}
    for _ in range(args.rounds):
        rates["bare"].append(bare_loop(model(), sft, args.micro, 1e-3))
        rates["sft"].append(ours(model(), sft, args, SftObjective()))
        rates["ranking joint"].append(ours(model(), ranked, args, ranking))
        rates["ranking split"].append(ours(model(), ranked, args, ranking, split=True))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        print(f"{name:14} {rate:8.0f} tokens/s  {rate / medians['bare']:5.2f} x bare")
    print(json.dumps(medians))


if __name__ == "__main__":
    main()

"""Sampling and training in bfloat16 beside float32, on this CPU and on one with AVX2 only.

Each figure is measured in a process of its own; AVX2 is this machine with newer instructions hidden
from torch and oneDNN. Machines differ and are shared, so read the ratios.

    python scripts/bench/dtypes.py                      # smollm2-135m (`iter models pull` it first)
    python scripts/bench/dtypes.py --model tiny-rtl
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from itercli.models import ModelSpec, resolve
from itercli.records import Message, ModelRef, RankedExample

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
QUESTION = (Message(role="user", content="Write a short story about a lighthouse keeper and a storm."),)


def sampled(ref: ModelRef, dtype: str, args: argparse.Namespace) -> float:
    """Tokens a second of the transformers sampler."""
    from itercli.sampling.base import Request, SamplingParams
    from itercli.sampling.specs import TransformersSpec

    spec = TransformersSpec.model_validate(
        {"dtype": dtype, "batch_size": args.slots, "threads": args.threads, "device": "cpu"}
    )
    sampler = spec.build()
    sampler.load(ref)
    params = SamplingParams(temperature=1.0, max_new_tokens=args.tokens)
    requests = [Request(("p", i), QUESTION, i, params) for i in range(args.slots)]
    began = time.perf_counter()
    tokens = sum(row.tokens for row in sampler.generate(iter(requests), lambda: False))
    return tokens / (time.perf_counter() - began)


def trained(ref: ModelRef, dtype: str, args: argparse.Namespace) -> float:
    """Steps a second of fine-tuning with LoRA."""
    from itercli.training.base import TrainingSpec, TrainJob
    from itercli.training.methods import Sft

    answer = "The lamp burned on while the wind rose, and the keeper counted every wave. " * 4
    examples = [
        RankedExample(prompt_id=str(i), messages=list(QUESTION), responses=[answer], scores=[1.0], target=0)
        for i in range(4)
    ]
    seconds: list[float] = []
    spec = TrainingSpec.model_validate(
        {"dtype": dtype, "batch_size": 4, "max_steps": args.steps + 1, "lr": 1e-4, "threads": args.threads}
    )
    with tempfile.TemporaryDirectory() as folder:
        job = TrainJob(
            examples=examples,
            start=ref,
            reference=None,
            training=spec,
            seed=0,
            work=Path(folder) / "work",
            out=Path(folder) / "out",
            stopping=lambda: False,
            report=lambda done, total, metrics: seconds.append(time.perf_counter()),
        )
        Sft().train(job)
    return args.steps / (seconds[-1] - seconds[0])


def main() -> None:
    """Measure, or in a child: one figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24, help="per completion")
    parser.add_argument("--steps", type=int, default=1, help="of training, after a first one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        model = resolve(ModelSpec(path=args.model))
        ref = ModelRef(base=str(model.path), version="policy@0", digest=model.digest)
        what, dtype = args.one
        print({"sampling": sampled, "training": trained}[what](ref, dtype, args))
        return
    for cpu, hidden in (("this CPU", {}), ("AVX2 only", AVX2)):
        for what, unit in (("sampling", "tokens/s"), ("training", "steps/s")):
            rates = {}
            for dtype in ("bfloat16", "float32"):
                command = [sys.executable, __file__, *sys.argv[1:], "--one", what, dtype]
                done = subprocess.run(
                    command, env=os.environ | hidden, stdout=subprocess.PIPE, text=True, check=True
                )
                rates[dtype] = round(float(done.stdout.split()[-1]), 3)
            ratio = round(rates["bfloat16"] / rates["float32"], 2)
            print(json.dumps({"cpu": cpu, what: unit, **rates, "bfloat16 / float32": ratio}), flush=True)


if __name__ == "__main__":
    main()

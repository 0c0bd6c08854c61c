"""One training job from start to end: encode, plan, resume, train, check, save."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch

from itercli.recipe.seeds import digest
from itercli.records import RankedExample, Record
from itercli.training.base import Interrupted, TrainJob, TrainResult
from itercli.training.checkpoints import Checkpoints
from itercli.training.collate import Needed, encode_groups, plan_steps
from itercli.training.hf import Pacer, StepTrainer, TrainingError, training_arguments
from itercli.training.losses import Objective
from itercli.training.models import (
    checksums,
    compute_dtype,
    load_model,
    load_tokenizer,
    save_adapter,
    save_weights,
)

log = logging.getLogger(__name__)


def run_training(
    job: TrainJob, objective: Objective, *, needed: Needed, options: dict[str, Any], split: bool = False
) -> TrainResult:
    """Train on `job.examples` and leave the model in `job.out`.

    Args:
        job: What to train on and from.
        objective: One example's share of the loss.
        needed: Which candidates of an example take part.
        options: The method's key parameters; a checkpoint made under others is ignored.
        split: See `StepTrainer`.

    Raises:
        Interrupted: `job.stopping()` became true; a checkpoint was saved.
        TrainingError: Nothing to train on, a loss that is not finite, or steps not taken.
    """
    spec = job.training
    if job.stopping():
        raise Interrupted("training stopped before its first step")
    torch.set_num_threads(spec.threads)
    examples = cast("Sequence[RankedExample]", job.examples)
    tokenizer = load_tokenizer(job.start)
    groups, counts = encode_groups(examples, tokenizer, max_length=spec.max_length, needed=needed)
    if not groups:
        raise TrainingError(_nothing_left(counts, spec.max_length))
    plan = plan_steps(
        len(groups),
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        max_steps=spec.max_steps,
        seed=job.seed,
    )
    identity = {
        "format": 1,
        "method": options,
        "training": spec.key_params(),
        "start": job.start.digest,
        "seed": job.seed,
        "examples": _examples_digest(job.examples),
    }
    checkpoints = Checkpoints(job.work / "checkpoints", digest(identity))
    lora = spec.lora if spec.tuning == "lora" else None
    model = load_model(
        job.start,
        # All weights are trained in float32 under autocast; frozen ones need no more than they compute in.
        dtype=torch.float32 if lora is None else compute_dtype(spec.dtype),
        lora=lora,
        seed=job.seed % 2**32,
    )
    pacer = Pacer(spec, job.stopping)
    trainer = StepTrainer(
        model,
        training_arguments(spec, steps=len(plan), seed=job.seed, folder=checkpoints.folder),
        [[groups[i] for i in step] for step in plan],
        objective,
        micro_batch_size=spec.micro_batch_size,
        split=split,
        checkpoints=checkpoints,
        report=job.report,
        alive=job.stopping,
        callbacks=[pacer],
    )
    pacer.trainer = trainer
    before = checksums(model)  # only now: the model is on its device, where sums round the same way
    newest = checkpoints.newest()
    if newest is not None:
        log.info("resuming from %s", newest)
    trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    steps = trainer.state.global_step
    if pacer.stopped:
        raise Interrupted(f"training stopped after step {steps} of {len(plan)}; a checkpoint was saved")
    if steps != len(plan):
        raise TrainingError(f"training ended after {steps} of {len(plan)} steps; nothing was saved")
    if checksums(model) == before:
        raise TrainingError(
            f"{steps} steps left every weight as it was; training.lr = {spec.lr} may be too small to "
            "change them, or no example has a gradient (ranking only, with nothing left to rank)"
        )
    job.out.mkdir(parents=True, exist_ok=True)
    if lora is None:
        save_weights(model, tokenizer, job.out / "weights")
    else:
        save_adapter(model, job.out / "adapter")
    return TrainResult(steps, _summary(trainer.state.log_history), dict(counts) | {"groups": len(groups)})


def _summary(history: list[dict[str, float]]) -> dict[str, float]:
    """Metrics of a whole training, the same whether or not it was resumed."""
    tail = history[-max(1, len(history) // 10) :]
    metrics = {"loss_first": history[0]["loss"], "loss": _mean(tail, "loss")}
    for name in sorted(set(history[0]) - {"step", "loss", "lr", "tokens"}):
        metrics[name] = _mean([h for h in tail if name in h], name)
    return metrics | {"tokens": sum(h["tokens"] for h in history)}


def _mean(rows: list[dict[str, float]], name: str) -> float:
    return math.fsum(row[name] for row in rows) / len(rows) if rows else math.nan


def _nothing_left(counts: Counter[str], max_length: int) -> str:
    if not counts["examples"]:
        return "no examples to train on; check what the stage before selected"
    dropped = {name.removeprefix("dropped_"): n for name, n in counts.items() if name.startswith("dropped_")}
    reasons = ", ".join(f"{n} {name}" for name, n in dropped.items())
    return (
        f"all {counts['examples']} examples were dropped ({reasons}); too_long: longer than "
        f"training.max_length = {max_length} tokens; no_target, no_signal: there is nothing to learn from"
    )


def _examples_digest(examples: Iterable[Record]) -> str:
    state = hashlib.sha256()
    for example in examples:
        state.update(example.model_dump_json().encode() + b"\n")
    return state.hexdigest()

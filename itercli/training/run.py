"""One training job from start to end: encode, plan, resume, train, check, save."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import TrainingArguments

from itercli.records import Record
from itercli.training.arguments import Pacer, training_arguments
from itercli.training.base import Interrupted, Item, TrainingError, TrainingSpec, TrainJob, TrainResult
from itercli.training.checkpoints import Checkpoints, job_identity
from itercli.training.collate import Group, plan_steps
from itercli.training.durable import DurableTrainer
from itercli.training.hf import StepTrainer
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

# (examples, tokenizer, max_length=...) -> groups, and counts: "examples", "dropped_REASON" and more.
Encode = Callable[..., "tuple[list[Group], Counter[str]]"]


def run_training(
    job: TrainJob, objective: Objective, *, encode: Encode, options: dict[str, Any], split: bool = False
) -> TrainResult:
    """Train a causal language model on what `encode` makes of the examples; leave it in `job.out`.

    Args:
        job: What to train on and from.
        objective: One example's share of the loss.
        encode: Turns the examples into tokens.
        options: The method's key parameters; a checkpoint made under others is ignored.
        split: See `StepTrainer`.

    Raises:
        Interrupted, TrainingError: See `run_steps`.
    """
    begin(job)
    tokenizer = load_tokenizer(job.start)
    groups, counts = encode(_watched(job), tokenizer, max_length=job.training.max_length)
    result = run_steps(
        job,
        groups,
        partial(StepTrainer, objective=objective, split=split),
        tokenizer=tokenizer,
        options=options,
        counts=counts,
    )
    result.counts["groups"] = len(groups)
    return result


def _watched(job: TrainJob) -> Iterator[Record]:
    """The examples; encoding many takes longer than a worker may be silent."""
    for example in job.examples:
        if job.stopping():
            raise Interrupted("training stopped before its first step")
        yield example


def begin(job: TrainJob) -> None:
    """What comes before everything else.

    Raises:
        Interrupted: The stage should stop already.
    """
    if job.stopping():
        raise Interrupted("training stopped before its first step")
    torch.set_num_threads(job.training.threads)


def run_steps(
    job: TrainJob,
    items: Sequence[Item],
    trainer_of: Callable[..., DurableTrainer],
    *,
    tokenizer: Any,
    options: dict[str, Any],
    counts: Counter[str],
    load: Callable[..., Any] = load_model,
    arguments: Callable[..., TrainingArguments] = TrainingArguments,
) -> TrainResult:
    """Plan, load, resume, train, check and save.

    Args:
        job: What to train on and from.
        items: The encoded examples.
        trainer_of: Makes the trainer from the arguments of `DurableTrainer`.
        tokenizer: Saved beside the weights.
        options: The method's key parameters; a checkpoint made under others is ignored.
        counts: Of the encoding: "examples", "dropped_REASON" and more.
        load: Loads the start model, called like `load_model`.
        arguments: The kind of arguments that the trainer takes.

    Raises:
        Interrupted: `job.stopping()` became true; a checkpoint was saved.
        TrainingError: Nothing to train on, a loss that is not finite, or steps not taken.
    """
    spec = job.training
    if not items:
        raise TrainingError(_nothing_left(counts, spec.max_length))
    plan = plan_steps(
        len(items),
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        max_steps=spec.max_steps,
        seed=job.seed,
    )
    checkpoints = Checkpoints(job.work / "checkpoints", job_identity(job, options))
    lora = spec.lora if spec.tuning == "lora" else None
    model = load(job.start, dtype=weights_dtype(spec), lora=lora, seed=job.seed % 2**32)
    pacer = Pacer(spec, job.stopping)
    trainer = trainer_of(
        model,
        training_arguments(spec, steps=len(plan), seed=job.seed, folder=checkpoints.folder, kind=arguments),
        [[items[i] for i in step] for step in plan],
        micro_batch_size=spec.micro_batch_size,
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
        save_weights(model, job.start, job.out / "weights")
    else:
        save_adapter(model, job.out / "adapter")
    return TrainResult(steps, _summary(trainer.state.log_history), dict(counts))


def weights_dtype(spec: TrainingSpec) -> torch.dtype:
    """In which a model is loaded for training.

    All weights are trained in float32 under autocast; frozen ones need no more than they compute in.
    """
    return torch.float32 if spec.tuning == "full" else compute_dtype(spec.dtype)


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
        f"training.max_length = {max_length} tokens; empty, same, no_target, no_signal, "
        "no_learnt_turn: there is nothing to learn from"
    )

"""Our options as those of a `transformers.Trainer`, and when it saves and stops."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainingArguments

from itercli.training.base import TrainingError, TrainingSpec
from itercli.training.models import compute_dtype

if TYPE_CHECKING:
    from itercli.training.durable import DurableTrainer


class Pacer(TrainerCallback):
    """Decides when to save a checkpoint and when to stop."""

    def __init__(self, spec: TrainingSpec, stopping: Callable[[], bool]) -> None:
        self.spec, self.stopping = spec, stopping
        self.stopped = False
        self.trainer: DurableTrainer | None = None
        self.saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            return
        every = self.spec.checkpoint_steps
        # Big models take long to save: never spend more than about a tenth of the time on it.
        spent = self.trainer.save_seconds if self.trainer else 0.0
        due = time.monotonic() - self.saved >= max(self.spec.checkpoint_seconds, 10 * spent)
        self.stopped = self.stopping()
        if self.stopped or due or (every and state.global_step % every == 0):
            control.should_save = True
        if self.stopped:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved = time.monotonic()


def training_arguments(
    spec: TrainingSpec,
    *,
    steps: int,
    seed: int,
    folder: Path,
    kind: Callable[..., TrainingArguments] = TrainingArguments,
) -> TrainingArguments:
    """Our options as the Trainer's, of the `kind` that it takes.

    Quiet: it runs in a worker whose output is a log.
    """
    cuda = torch.cuda.is_available()
    args = kind(
        output_dir=str(folder),
        use_cpu=not cuda,
        bf16=compute_dtype(spec.dtype) == torch.bfloat16,
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=spec.lr,
        # AdamW's kind (fused or not) is the Trainer's choice.
        **({} if spec.optimizer == "adamw" else {"optim": spec.optimizer}),
        # The Trainer's plain "constant" takes no notice of warm-up.
        lr_scheduler_type="constant_with_warmup" if spec.schedule == "constant" else spec.schedule,
        warmup_steps=int(spec.warmup_ratio * steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        gradient_checkpointing=spec.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if spec.gradient_checkpointing else None,
        seed=seed % 2**32,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        average_tokens_across_devices=False,
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        log_level="warning",
    )
    if args.world_size > 1:
        raise TrainingError("training runs in one process; start it without a distributed launcher")
    # More than one visible GPU would be wrapped in DataParallel, which can't take our batches.
    args._n_gpu = min(args.n_gpu, 1)
    return args

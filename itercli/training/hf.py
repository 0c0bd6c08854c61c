"""Training on top of `transformers.Trainer`.

The Trainer gives optimizer, schedule, mixed precision and device placement. Four of its
habits are changed, because each one silently spoils an iterated loop:

- *Accumulation.* Its loss scaling depends on the model's signature and on a `labels` key.
  Here one item of its data loader is a whole optimizer step; `training_step` cuts it into
  micro-batches whose loss shares are normalised by the whole step, so the gradient does not
  depend on `micro_batch_size`.
- *Checkpoints.* See `checkpoints`: only verified ones are resumed from.
- *The model's config.* It would be saved with the cache switched off.
- *bfloat16 on CPU.* Ten times slower than float32 there, so `auto` never picks it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from itercli.errors import IterError
from itercli.training.base import TrainingSpec
from itercli.training.checkpoints import WEIGHTS, Checkpoints
from itercli.training.collate import Group, length_buckets, micro_batches, pad_rows
from itercli.training.losses import Objective, Totals, response_logprobs
from itercli.training.models import compute_dtype, trained_tensors

log = logging.getLogger(__name__)

Report = Callable[[int, int, dict[str, float]], None]


class TrainingError(IterError):
    """Training can't start or went wrong; the message names the fix."""


class StepTrainer(Trainer):
    """A Trainer whose batches are whole optimizer steps.

    Args:
        model: A causal LM, possibly a PEFT model.
        args: Arguments, see `training_arguments`.
        steps: The groups of each optimizer step.
        objective: One example's share of the loss.
        micro_batch_size: Examples per forward pass.
        split: Backpropagate one candidate at a time (see `_split_gradient`).
        checkpoints: Where checkpoints go.
        report: Called after each step.
        alive: Called before each forward pass: a step can take longer than a worker may be silent.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        steps: Sequence[Sequence[Group]],
        objective: Objective,
        *,
        micro_batch_size: int,
        split: bool = False,
        checkpoints: Checkpoints,
        report: Report = lambda done, total, metrics: None,
        alive: Callable[[], object] = lambda: None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        use_cache = model.config.use_cache
        super().__init__(model, args, callbacks=list(callbacks))
        # The Trainer switches the cache off in the config, which would be saved with the
        # weights and make every later generation quadratic. Forward passes say it instead.
        model.config.use_cache = use_cache
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        self.steps: Sequence[Sequence[Group]] = steps
        self.objective: Objective = objective
        self.micro_batch_size, self.split = micro_batch_size, split
        self.checkpoints, self.report, self.alive = checkpoints, report, alive
        self.save_seconds = 0.0
        self._step_metrics: dict[str, float] = {}
        self._step_started = 0.0

    def get_train_dataloader(self) -> DataLoader:
        """The steps in their planned order; nothing is shuffled, sharded or moved here."""
        steps = cast(Any, self.steps)
        return DataLoader(steps, batch_size=1, shuffle=False, collate_fn=lambda items: items[0])

    def training_step(  # type: ignore[override]
        self, model: Any, inputs: Sequence[Group], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward over a whole step; returns its loss."""
        model.train()
        self._step_started = time.monotonic()
        totals = Totals.of(inputs)
        loss = torch.zeros((), dtype=torch.float64, device=self.args.device)
        metrics: dict[str, Tensor] = {}
        tokens = 0

        def add(share: Tensor, parts: dict[str, Tensor]) -> None:
            nonlocal loss
            loss = loss + share.detach()
            for name, part in parts.items():
                metrics[name] = metrics.get(name, 0) + part

        for groups in micro_batches(inputs, 1 if self.split else self.micro_batch_size):
            self.alive()
            if self.split and len(groups[0].rows) > 1:
                add(*self._split_gradient(model, groups[0], totals))
            else:
                sums = self._logprobs(model, groups).split([len(g.rows) for g in groups])
                shares = [self.objective(s, g, totals) for s, g in zip(sums, groups, strict=True)]
                self.accelerator.backward(torch.stack([share for share, _ in shares]).sum())
                for share in shares:
                    add(*share)
            tokens += sum(len(row.ids) for group in groups for row in group.rows)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.state.global_step + 1}; lower training.lr, "
                "or check the start model"
            )
        self._step_metrics = {name: float(part) for name, part in metrics.items()}
        self._step_metrics |= {"loss": value, "tokens": float(tokens)}
        return loss.float()

    def _logprobs(self, model: Any, groups: Sequence[Group], only: int | None = None) -> Tensor:
        """Summed response log-probabilities of all candidates of `groups`, in order."""
        rows = [row for group in groups for row in group.rows]
        if only is not None:
            rows = [rows[only]]
        device = self.args.device
        buckets = length_buckets(rows, 4096 if device.type == "cuda" else 256)
        sums = []
        for bucket in buckets:
            batch = pad_rows([rows[i] for i in bucket], device)
            # Logits of prompt tokens are not needed; with a large vocabulary they are most of the memory.
            output = model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.kept)
            sums.append(response_logprobs(output.logits, batch.labels))
        order = [i for bucket in buckets for i in bucket]
        return torch.cat(sums)[torch.tensor(order, device=device).argsort()]

    def _split_gradient(self, model: Any, group: Group, totals: Totals) -> tuple[Tensor, dict[str, Tensor]]:
        """Gradient of one example with one candidate in memory at a time.

        The loss depends on the parameters only through the candidates' log-likelihoods c_i, so
        its gradient is the sum of dL/dc_i * dc_i/dθ: run all candidates without a graph,
        differentiate the scalar loss by c, then run each alone and backpropagate its c_i
        times that weight. Exact (RTLCoder, section on gradient splitting); each candidate
        is run twice, with the same dropout mask both times.
        """
        states, sums = [], []
        with torch.no_grad():
            for i in range(len(group.rows)):
                states.append(_rng_state(self.args.device))
                sums.append(self._logprobs(model, [group], i))
        leaf = torch.cat(sums).requires_grad_()
        share, parts = self.objective(leaf, group, totals)
        (weights,) = torch.autograd.grad(share, leaf)
        after = _rng_state(self.args.device)
        for i, weight in enumerate(weights):
            if weight != 0:
                _set_rng_state(self.args.device, states[i])
                self.accelerator.backward((self._logprobs(model, [group], i) * weight).sum())
        _set_rng_state(self.args.device, after)
        return share, parts

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Pass a step's metrics on; keep those that a resume must not lose."""
        if "grad_norm" not in logs:
            return
        seconds = time.monotonic() - self._step_started
        kept = dict(self._step_metrics, grad_norm=float(logs["grad_norm"]), lr=float(logs["learning_rate"]))
        self.state.log_history.append({"step": self.state.global_step, **kept})
        metrics = kept | {"tokens_per_second": kept["tokens"] / max(seconds, 1e-9)}
        self.report(self.state.global_step, self.state.max_steps, metrics)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        started = time.monotonic()
        path = self.checkpoints.save(self.state.global_step, self._write_checkpoint)
        self.save_seconds = time.monotonic() - started
        log.info("checkpoint %s saved in %.1f s", path, self.save_seconds)

    def _write_checkpoint(self, folder: Path) -> None:
        tensors = {n: t.detach().cpu().contiguous() for n, t in trained_tensors(self._module()).items()}
        save_file(tensors, folder / WEIGHTS)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        tensors = trained_tensors(self._module())
        if saved.keys() != tensors.keys():
            raise TrainingError(f"{resume_from_checkpoint} holds other weights than this job trains")
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(saved[name])

    def _module(self) -> nn.Module:
        assert self.model is not None
        return self.model


class Pacer(TrainerCallback):
    """Decides when to save a checkpoint and when to stop."""

    def __init__(self, spec: TrainingSpec, stopping: Callable[[], bool]) -> None:
        self.spec, self.stopping = spec, stopping
        self.stopped = False
        self.trainer: StepTrainer | None = None
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


def training_arguments(spec: TrainingSpec, *, steps: int, seed: int, folder: Path) -> TrainingArguments:
    """Our options as the Trainer's. Quiet: it runs in a worker whose output is a log."""
    cuda = torch.cuda.is_available()
    args = TrainingArguments(
        output_dir=str(folder),
        use_cpu=not cuda,
        bf16=compute_dtype(spec.dtype) == torch.bfloat16,
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        learning_rate=spec.lr,
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


def _rng_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_rng_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)

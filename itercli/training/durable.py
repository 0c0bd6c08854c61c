"""What all our training has in common on top of `transformers.Trainer`.

The Trainer gives optimizer, schedule, mixed precision and device placement. Three of its
habits are changed, because each one silently spoils an iterated loop:

- *Accumulation.* Its loss scaling depends on the model's signature and on a `labels` key.
  Here one item of its data loader is a whole optimizer step; `training_step` runs it in
  passes whose loss shares are normalised by the whole step, so the gradient does not
  depend on `micro_batch_size`.
- *Checkpoints.* See `checkpoints`: only verified ones are resumed from.
- *The model's config.* It would be saved with the cache switched off.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from itercli.training.base import Item, TrainingError
from itercli.training.checkpoints import WEIGHTS, Checkpoints
from itercli.training.models import trained_tensors

log = logging.getLogger(__name__)

Report = Callable[[int, int, dict[str, float]], None]
Share = tuple[Tensor, dict[str, Tensor]]


class DurableTrainer(Trainer):
    """A Trainer whose batches are whole optimizer steps and whose checkpoints are ours.

    It stands before any other Trainer in the bases of a subclass, and takes that one's arguments.

    Args:
        model: The model to train, possibly a PEFT model.
        args: Arguments, see `arguments`.
        steps: The examples of each optimizer step.
        micro_batch_size: Examples per forward pass.
        checkpoints: Where checkpoints go.
        report: Called after each step.
        alive: Called before each forward pass: a step can take longer than a worker may be silent.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        steps: Sequence[Sequence[Item]],
        *,
        micro_batch_size: int,
        checkpoints: Checkpoints,
        report: Report = lambda done, total, metrics: None,
        alive: Callable[[], object] = lambda: None,
        callbacks: Sequence[TrainerCallback] = (),
        **kwargs: Any,
    ) -> None:
        with _unchanged(model):
            super().__init__(model=model, args=args, callbacks=list(callbacks), **kwargs)
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        self.steps: Sequence[Sequence[Item]] = steps
        self.micro_batch_size = micro_batch_size
        self.checkpoints, self.report, self.alive = checkpoints, report, alive
        self.save_seconds = 0.0
        self._step_metrics: dict[str, float] = {}
        self._step_started = 0.0

    def passes(self, model: Any, step: Sequence[Any]) -> Iterator[Share]:
        """Run one step forward and backward, pass by pass.

        Yields:
            Shares of the step's loss and of its metrics (detached), which add up over the step.
        """
        raise NotImplementedError

    def get_train_dataloader(self) -> DataLoader:
        """The steps in their planned order; nothing is shuffled, sharded or moved here."""
        steps = cast(Any, self.steps)
        return DataLoader(steps, batch_size=1, shuffle=False, collate_fn=lambda items: items[0])

    def training_step(  # type: ignore[override]
        self, model: Any, inputs: Sequence[Item], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward over a whole step; returns its loss."""
        model.train()
        self._step_started = time.monotonic()
        loss = torch.zeros((), dtype=torch.float64, device=self.args.device)
        metrics: dict[str, Tensor] = {}
        for share, parts in self.passes(model, inputs):
            loss = loss + share.detach()
            for name, part in parts.items():
                metrics[name] = metrics.get(name, 0) + part
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.state.global_step + 1}; lower training.lr, "
                "or check the start model"
            )
        tokens = sum(item.tokens for item in inputs)
        self._step_metrics = {name: float(part) for name, part in metrics.items()}
        self._step_metrics |= {"loss": value, "tokens": float(tokens)}
        return loss.float()

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


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Undo what trainers do to the config, which is saved with the weights.

    With the cache off every later generation is quadratic, and a padding token is not theirs
    to choose. Forward passes say both themselves.
    """
    configs = (model.config, model.config.get_text_config(), getattr(model, "generation_config", None))
    before = [
        (config, name, getattr(config, name))
        for config in configs
        for name in ("use_cache", "pad_token_id")
        if hasattr(config, name)
    ]
    yield
    for config, name, value in before:
        setattr(config, name, value)

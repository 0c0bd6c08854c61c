"""Training of causal language models by an `Objective` of response log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from itercli.training.collate import Group, length_buckets, micro_batches, pad_rows
from itercli.training.durable import DurableTrainer, Share
from itercli.training.losses import Objective, Totals, response_logprobs


class StepTrainer(DurableTrainer):
    """Minimises the sum of an objective's shares over each step.

    Args:
        steps: The groups of each optimizer step.
        objective: One example's share of the loss.
        split: Backpropagate one candidate at a time (see `_split_gradient`).
        durable: See `DurableTrainer`.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        steps: Sequence[Sequence[Group]],
        objective: Objective,
        *,
        split: bool = False,
        **durable: Any,
    ) -> None:
        super().__init__(model, args, steps, **durable)
        self.objective: Objective = objective
        self.split = split

    def passes(self, model: Any, step: Sequence[Group]) -> Iterator[Share]:
        """One micro-batch after the other; see `DurableTrainer.passes`."""
        totals = Totals.of(step)
        for groups in micro_batches(step, 1 if self.split else self.micro_batch_size):
            self.alive()
            if self.split and len(groups[0].rows) > 1:
                yield self._split_gradient(model, groups[0], totals)
            else:
                sums = self._logprobs(model, groups).split([len(g.rows) for g in groups])
                shares = [self.objective(s, g, totals) for s, g in zip(sums, groups, strict=True)]
                self.accelerator.backward(torch.stack([share for share, _ in shares]).sum())
                yield from shares

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


def _rng_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_rng_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)

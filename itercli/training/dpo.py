"""Direct preference optimisation on TRL's `DPOTrainer`.

TRL gives the losses, its fused head and its model preparation. Data, steps, checkpoints and the
reference model are ours: pairs arrive encoded as in sampling, a step's gradient does not depend
on `micro_batch_size`, and the reference's log-probabilities come with the pairs
(`itercli.training.reference`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from itercli.records import PreferencePair
from itercli.training.base import TrainJob, TrainResult
from itercli.training.collate import micro_batches
from itercli.training.durable import DurableTrainer, Share
from itercli.training.models import compute_dtype, load_tokenizer
from itercli.training.pairs import Pair, collate, encode_pairs
from itercli.training.preference import BATCHWISE, SMOOTHED, Dpo
from itercli.training.reference import load_reference, pair_logprobs, with_reference
from itercli.training.run import begin, run_steps


def run_dpo(job: TrainJob, method: Dpo) -> TrainResult:
    """Train on `job.examples` and leave the model in `job.out`.

    Raises:
        Interrupted, TrainingError: See `run_steps`.
        ValueError: A pair has an alpha or a weight that the loss can't take.
    """
    begin(job)
    tokenizer = load_tokenizer(job.start)
    pairs, counts = encode_pairs(
        cast("Sequence[PreferencePair]", job.examples),
        tokenizer,
        max_length=job.training.max_length,
        doubt=method.doubt,
        weight=method.weight,
        on_cut=job.training.on_cut,
    )
    reference = None
    if pairs and method.precompute_reference:
        pairs = with_reference(job, pairs)
    elif pairs:
        reference = load_reference(job)
    result = run_steps(
        job,
        pairs,
        partial(
            PairTrainer,
            nll_weight=method.nll_weight,
            reference=reference,
            dtype=compute_dtype(job.training.dtype),
            # A second one, since TRL gives it a padding token, which would be saved.
            processing_class=load_tokenizer(job.start),
        ),
        tokenizer=tokenizer,
        options=method.key_params(),
        counts=counts,
        arguments=partial(
            DPOConfig,
            loss_type=[method.loss],
            beta=method.beta,
            label_smoothing=method.label_smoothing if method.loss in SMOOTHED else 0.0,
            disable_dropout=method.disable_dropout,
            max_length=None,
            precompute_ref_log_probs=True,
        ),
    )
    result.counts["pairs"] = len(pairs)
    return result


class PairTrainer(DurableTrainer, DPOTrainer):
    """`DPOTrainer` with doubt and weight per pair and a likelihood term per example.

    Args:
        steps: The pairs of each optimizer step.
        nll_weight: Of the mean over pairs of the chosen answer's mean token NLL.
        reference: The reference model, where the pairs don't carry its log-probabilities.
        dtype: In which the reference model computes.
        others: See `DurableTrainer` and `DPOTrainer`.
    """

    def __init__(
        self,
        model: Any,
        args: DPOConfig,
        steps: Sequence[Sequence[Pair]],
        *,
        nll_weight: float = 0.0,
        reference: Any = None,
        dtype: torch.dtype = torch.float32,
        **others: Any,
    ) -> None:
        # TRL wants to see a dataset, of which only the first row matters: batches come from `steps`.
        sample = Dataset.from_list([steps[0][0].columns()])
        super().__init__(model, args, steps, train_dataset=sample, **others)
        self.processing_class = None  # it would set its padding token in the model's config
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")  # see `itercli.training.reference`
        self.nll_weight, self.reference, self.dtype = nll_weight, reference, dtype
        self.batchwise = bool(BATCHWISE & set(self.loss_types))

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Pairs are encoded already."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """The reference model has run already."""
        return dataset

    def passes(self, model: Any, step: Sequence[Pair]) -> Iterator[Share]:
        """One micro-batch after the other; see `DurableTrainer.passes`."""
        for pairs in micro_batches(step, len(step) if self.batchwise else self.micro_batch_size):
            self.alive()
            batch = collate(pairs, self.args.device)
            if self.reference is not None:
                logprobs = pair_logprobs(self.reference, batch, self.dtype)
                batch["ref_chosen_logps"], batch["ref_rejected_logps"] = logprobs
            with self.compute_loss_context_manager():
                loss, parts = self._loss(model, pairs, batch)
            # A quotient of means, as TRL scales under accumulation, gives its very bits.
            share = loss / (len(step) / len(pairs))
            self.accelerator.backward(share)
            yield share, {name: part.detach().sum() / len(step) for name, part in parts.items()}

    def _loss(self, model: Any, pairs: Sequence[Pair], batch: dict[str, Tensor]) -> Share:
        """Mean loss of the pairs, and metrics [pairs].

        For the sigmoid loss, -(1 - a) log σ(z) - a log σ(-z) = -log σ(z) + a z: TRL's loss, and a term.
        """
        mask = batch["completion_mask"]
        outputs = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["input_ids"].masked_fill(mask == 0, -100),
            use_cache=False,
            fused_lm_head=True,
            **({"output_router_logits": True} if self.aux_loss_enabled else {}),
        )
        chosen, rejected = outputs.log_probs.sum(dim=1).chunk(2)
        lengths = mask[: len(pairs), 1:].sum(dim=1)
        changes = (chosen - batch["ref_chosen_logps"], rejected - batch["ref_rejected_logps"])
        margin = self.beta * (changes[0] - changes[1])
        nll = -chosen / lengths
        if self.batchwise:
            loss = self._trl_loss(outputs, batch, slice(None), slice(None))
        else:
            doubt = margin.new_tensor([pair.doubt for pair in pairs])
            weight = margin.new_tensor([pair.weight for pair in pairs])
            n = len(pairs)
            losses = [self._trl_loss(outputs, batch, [i, n + i], [i]) for i in range(n)]
            loss = (weight * (torch.stack(losses) + doubt * margin)).mean()
        if self.nll_weight:
            loss = loss + self.nll_weight * nll.mean()
        return loss, {
            "reward_accuracy": (margin > 0).float(),
            "reward_margin": margin,
            "chosen_change": changes[0],
            "rejected_change": changes[1],
            "chosen_nll": nll,
        }

    def _trl_loss(self, outputs: Any, batch: dict[str, Tensor], rows: Any, pairs: Any) -> Tensor:
        """TRL's loss of some of the pairs of a batch that has been run.

        TRL has no hook between a pair's loss and the mean over a batch, but calls its model by
        argument: here a model that only hands out its share of `outputs`.
        """
        names = ("log_probs", "entropy", "mean_logits", "is_top1")
        share = SimpleNamespace(
            aux_loss=outputs.aux_loss, **{name: getattr(outputs, name)[rows] for name in names}
        )
        inputs = {name: t[pairs if name.startswith("ref_") else rows] for name, t in batch.items()}
        loss = self._compute_loss(lambda **_: share, inputs, return_outputs=False)
        self._metrics["train"].clear()
        return loss

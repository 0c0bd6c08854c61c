"""Training of the pair classifier whose dropout says how sure a preference is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from itercli.records import ModelRef, PreferencePair
from itercli.training.base import TrainingError, TrainJob, TrainResult
from itercli.training.classifier import dropouts, load_classifier, pad, pad_id
from itercli.training.classifier_inputs import Encoded, comparison_input, input_limit, reward_input
from itercli.training.classifier_pairs import Two, encode_two
from itercli.training.classifiers import Estimator
from itercli.training.collate import micro_batches
from itercli.training.durable import DurableTrainer, Share
from itercli.training.models import load_tokenizer
from itercli.training.run import begin, run_steps


def train_estimator(job: TrainJob, method: Estimator) -> TrainResult:
    """Train on both orders of `job.examples` and leave the model in `job.out`.

    Raises:
        Interrupted, TrainingError: See `run_steps`.
        TrainingError: The model has no dropout.
    """
    begin(job)
    tokenizer = load_tokenizer(job.start)
    limit = input_limit(job.start, tokenizer, job.training.max_length)

    def encode(pair: PreferencePair) -> tuple[Encoded, Encoded]:
        return both_orders(tokenizer, pair, limit)

    pairs, counts = encode_two(job, encode, drop=method.on_too_long == "drop")
    return run_steps(
        job,
        pairs,
        EstimatorSteps,
        tokenizer=tokenizer,
        options=method.key_params(),
        counts=counts,
        load=_load,
    )


def both_orders(tokenizer: Any, pair: PreferencePair, limit: int) -> tuple[Encoded, Encoded]:
    """The chosen answer first, then the rejected one first."""
    compare = partial(comparison_input, tokenizer, pair.messages, limit=limit)
    return compare(pair.chosen, pair.rejected), compare(pair.rejected, pair.chosen)


def each_alone(tokenizer: Any, pair: PreferencePair, limit: int) -> tuple[Encoded, Encoded]:
    """The chosen answer and the rejected one, as a reward model reads them."""
    read = partial(reward_input, tokenizer, pair.messages, limit=limit)
    return read(pair.chosen), read(pair.rejected)


def _load(start: ModelRef, **how: Any) -> Any:
    model = load_classifier(start, 2, **how)
    if not dropouts(model):
        raise TrainingError(
            "this model has no dropout of its own, so all passes of the estimator would be the same; set "
            "training.tuning: lora with training.lora.dropout above 0, or start from a model with dropout"
        )
    return model


class EstimatorSteps(DurableTrainer):
    """Cross-entropy of "which is better", the label being where the chosen answer stands."""

    def passes(self, model: Any, step: Sequence[Two]) -> Iterator[Share]:
        """One micro-batch after the other; see `DurableTrainer.passes`."""
        padding = pad_id(model)
        for pairs in micro_batches(step, self.micro_batch_size):
            self.alive()
            rows = [pair.sequences[order] for order in (0, 1) for pair in pairs]
            labels = torch.tensor([0] * len(pairs) + [1] * len(pairs), device=self.args.device)
            with self.compute_loss_context_manager():
                logits = model(**pad(rows, padding, self.args.device)).logits.float()
            part = len(pairs) / len(step)
            share = cross_entropy(logits, labels) * part
            self.accelerator.backward(share)
            right = (logits.detach().argmax(dim=1) == labels).float()
            consistent = (right[: len(pairs)] == right[len(pairs) :]).float()
            yield share, {"accuracy": right.mean() * part, "swap_consistent": consistent.mean() * part}

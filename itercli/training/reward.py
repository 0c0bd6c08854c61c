"""Bradley-Terry reward models on TRL's `RewardTrainer`.

TRL gives the loss and its collator; encoding, steps and checkpoints are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from itercli.records import PreferencePair
from itercli.training.base import TrainJob, TrainResult
from itercli.training.classifier import load_classifier
from itercli.training.classifier_inputs import Encoded, input_limit, reward_input
from itercli.training.classifier_pairs import Two, encode_two
from itercli.training.classifiers import Reward
from itercli.training.collate import micro_batches
from itercli.training.durable import DurableTrainer, Share
from itercli.training.models import load_tokenizer
from itercli.training.run import begin, run_steps


def train_reward(job: TrainJob, method: Reward) -> TrainResult:
    """Train on `job.examples` and leave the model in `job.out`.

    Raises:
        Interrupted, TrainingError: See `run_steps`.
    """
    begin(job)
    tokenizer = load_tokenizer(job.start)
    limit = input_limit(job.start, tokenizer, job.training.max_length)

    def encode(pair: PreferencePair) -> tuple[Encoded, Encoded]:
        one, two = (reward_input(tokenizer, pair.messages, a, limit) for a in (pair.chosen, pair.rejected))
        return one, two

    pairs, counts = encode_two(job, encode, drop=method.on_too_long == "drop", margin=method.margin)
    return run_steps(
        job,
        pairs,
        # A second tokenizer, since TRL gives it a padding token, which would be saved.
        partial(RewardSteps, margin=method.margin, processing_class=load_tokenizer(job.start)),
        tokenizer=tokenizer,
        options=method.key_params(),
        counts=counts,
        load=partial(load_classifier, labels=1),
        arguments=partial(
            RewardConfig,
            max_length=None,
            disable_dropout=method.disable_dropout,
            center_rewards_coefficient=method.center or None,
        ),
    )


class RewardSteps(DurableTrainer, RewardTrainer):
    """`RewardTrainer` over whole steps.

    Args:
        steps: The pairs of each optimizer step.
        margin: Use the pairs' margins.
        others: See `DurableTrainer` and `RewardTrainer`.
    """

    def __init__(
        self, model: Any, args: RewardConfig, steps: Sequence[Sequence[Two]], *, margin: bool, **others: Any
    ) -> None:
        self.margin = margin
        # TRL wants to see a dataset, of which only the columns matter: batches come from `steps`.
        sample = Dataset.from_list([self._columns(steps[0][0])])
        super().__init__(model, args, steps, train_dataset=sample, **others)
        self.processing_class = None  # it would set its padding token in the model's config

    def passes(self, model: Any, step: Sequence[Two]) -> Iterator[Share]:
        """One micro-batch after the other; see `DurableTrainer.passes`."""
        for pairs in micro_batches(step, self.micro_batch_size):
            self.alive()
            batch = self._prepare_inputs(self.data_collator([self._columns(pair) for pair in pairs]))
            part = len(pairs) / len(step)  # TRL's is a mean over the batch
            with self.compute_loss_context_manager():
                share = self.compute_loss(model, batch) * part
            self.accelerator.backward(share)
            metrics = self._metrics["train"]
            yield share, {name: share.new_tensor(metrics[name][-1] * part) for name in ("accuracy", "margin")}
            metrics.clear()

    def _columns(self, pair: Two) -> dict[str, Any]:
        """As TRL's collator takes it."""
        columns: dict[str, Any] = {"chosen_ids": pair.sequences[0], "rejected_ids": pair.sequences[1]}
        return columns | ({"margin": pair.margin} if self.margin else {})

"""Multi-turn supervised fine-tuning as a recipe names it; the work is in `itercli.training.dialogues`."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from itercli.records import Dialogue, Record
from itercli.registry import register
from itercli.training.base import Method, TrainJob, TrainResult


@register("method", "dialogue")
class DialogueSft(Method):
    """Cross-entropy of the assistant turns whose flag in `Dialogue.loss` is set.

    Each of them is learnt behind the whole conversation before it, with the ids of sampling. The
    loss is the mean over all target tokens of an optimizer step; `training.batch_size` counts
    dialogues. One that is longer than `training.max_length` is dropped, never cut.
    """

    EXAMPLES: ClassVar[type[Record]] = Dialogue

    def train(self, job: TrainJob) -> TrainResult:
        """Train and leave the model in `job.out`; see `Method.train`."""
        from itercli.training.dialogues import encode_dialogues
        from itercli.training.losses import SftObjective
        from itercli.training.run import run_training

        encode = partial(encode_dialogues, on_cut=job.training.on_cut)
        return run_training(job, SftObjective(), encode=encode, options=self.key_params())

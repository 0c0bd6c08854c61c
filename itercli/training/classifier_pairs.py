"""Preference pairs as classifiers are trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from itercli.records import PreferencePair
from itercli.training.base import TrainingError, TrainJob
from itercli.training.classifier_inputs import Encoded


@dataclass(frozen=True, slots=True)
class Two:
    """A preference pair as two sequences, each with one answer or with both in one order.

    Attributes:
        margin: Lead that the first should have.
    """

    sequences: tuple[list[int], list[int]]
    margin: float = 0.0

    @property
    def length(self) -> int:
        """Tokens of the longer sequence."""
        return max(map(len, self.sequences))

    @property
    def tokens(self) -> int:
        """Tokens of both."""
        return sum(map(len, self.sequences))


def encode_two(
    job: TrainJob,
    encode: Callable[[PreferencePair], tuple[Encoded, Encoded]],
    *,
    drop: bool,
    margin: bool = False,
) -> tuple[list[Two], Counter[str]]:
    """Encode the pairs of a job.

    Args:
        encode: The two sequences of a pair.
        drop: Leave out what does not fit whole.
        margin: Take the pair's reward margin.

    Returns:
        The pairs in their order, and counts: "examples", "truncated", "tokens_cut", "dropped_REASON".

    Raises:
        TrainingError: A pair has no margin.
    """
    counts: Counter[str] = Counter(examples=0)
    kept = []
    for pair in cast("Iterable[PreferencePair]", job.examples):
        counts["examples"] += 1
        if pair.chosen == pair.rejected:
            counts["dropped_same"] += 1
            continue
        if margin and pair.margin is None:
            raise TrainingError(
                f"pair {pair.index} of {pair.prompt_id!r} has no rewards, so no margin; set method.margin to "
                "false, or make pairs from scores"
            )
        first, second = encode(pair)
        if first.cut or second.cut:
            if drop:
                counts["dropped_too_long"] += 1
                continue
            counts["truncated"] += 1
            counts["tokens_cut"] += first.cut + second.cut
        kept.append(Two((first.ids, second.ids), (pair.margin or 0.0) if margin else 0.0))
    return kept, counts

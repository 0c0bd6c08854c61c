"""Preference pairs as tokens, and as batches in TRL's form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itercli.records import PreferencePair
from itercli.training.base import OnCut


@dataclass(frozen=True, slots=True)
class Pair:
    """An encoded pair; end-of-turn tokens belong to the answers.

    Attributes:
        doubt: Chance that the label is wrong, see `Dpo.doubt`.
        reference: Log-probabilities of (chosen, rejected) under the reference model in nats.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    doubt: float
    weight: float
    reference: tuple[float, float] | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and longer answer."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def tokens(self) -> int:
        """Tokens of both sequences."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    def columns(self) -> dict[str, Any]:
        """As TRL's collator takes it."""
        columns: dict[str, Any] = {
            "prompt_ids": self.prompt,
            "chosen_ids": self.chosen,
            "rejected_ids": self.rejected,
        }
        if self.reference is not None:
            columns |= {"ref_chosen_logps": self.reference[0], "ref_rejected_logps": self.reference[1]}
        return columns


def encode_pairs(
    pairs: Iterable[PreferencePair],
    tokenizer: Any,
    *,
    max_length: int,
    doubt: Callable[[PreferencePair], float],
    weight: Callable[[PreferencePair], float],
    on_cut: OnCut = "no_end_token",
) -> tuple[list[Pair], Counter[str]]:
    """Encode pairs with the ids of sampling; nothing is ever truncated.

    Pairs that are longer than `max_length` tokens, have an answer without text, an answer that was
    cut off and is not wanted so, or two equal answers (their gradient is zero) are dropped.

    Returns:
        The pairs in their order, and counts: "examples", "dropped_REASON", and those of `AnswerEncoder`.
    """
    from itercli.training.answers import AnswerEncoder

    encoder = AnswerEncoder(tokenizer, on_cut)
    kept: list[Pair] = []
    counts: Counter[str] = Counter(examples=0)
    for pair in pairs:
        counts["examples"] += 1
        if not pair.chosen.strip() or not pair.rejected.strip():
            counts["dropped_empty"] += 1
            continue
        prompt = encoder.prompt(pair.messages)
        chosen, rejected = (
            encoder.answer(prompt, text, finish, generated)
            for text, finish, generated in zip(
                (pair.chosen, pair.rejected), pair.finish, pair.generated, strict=True
            )
        )
        if chosen is None or rejected is None:
            counts["dropped_cut"] += 1
            continue
        if chosen == rejected:
            counts["dropped_same"] += 1
            continue
        if len(prompt.ids) + max(len(chosen), len(rejected)) > max_length:
            counts["dropped_too_long"] += 1
            continue
        kept.append(Pair(prompt.ids, chosen, rejected, doubt(pair), weight(pair)))
    counts.update(encoder.counts)
    return kept, counts


def collate(pairs: Sequence[Pair], device: torch.device) -> dict[str, Tensor]:
    """A batch for TRL: `input_ids`, `attention_mask`, `completion_mask`, each [2 * pairs, length].

    Chosen sequences come first, then the rejected ones, padded on the right. The padding id
    is 0: it is masked everywhere.
    """
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    batch = DataCollatorForPreference(pad_token_id=0)([pair.columns() for pair in pairs])
    return {name: tensor.to(device) for name, tensor in batch.items()}

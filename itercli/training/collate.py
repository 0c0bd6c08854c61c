"""From examples to batches: encoding, the plan of optimizer steps, padding.

One item of the plan is one optimizer step, so a step always holds `batch_size` examples
(the last of an epoch may hold fewer), and resuming means skipping whole items.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from itercli.recipe.seeds import seed_for
from itercli.records import RankedExample
from itercli.training.base import Item, OnCut

# Which candidates of an example have to be run, given scores and target; or why to drop it.
Needed = Callable[[Sequence[float], int | None], "list[int] | str"]


@dataclass(frozen=True, slots=True)
class Row:
    """Prompt and response as tokens; the end-of-turn token belongs to the response.

    Attributes:
        gaps: (begin, end) of what lies between the targets after the prompt: in a conversation with
            several learnt turns, all that the others wrote.
    """

    ids: np.ndarray
    prompt_len: int
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, prompt: Sequence[int], answer: Sequence[int]) -> Row:
        """A prompt with its answer."""
        # Nothing predicts the very first token, so it can't be a target.
        return cls(np.asarray([*prompt, *answer], dtype=np.int32), max(len(prompt), 1))

    @property
    def response_len(self) -> int:
        """Number of target tokens."""
        return len(self.ids) - self.prompt_len - sum(end - begin for begin, end in self.gaps)


@dataclass(frozen=True, slots=True)
class Group:
    """An encoded example: the candidates that enter its loss, or all rows of a dialogue."""

    prompt_id: str
    rows: tuple[Row, ...]
    scores: tuple[float, ...]
    target: int | None

    @property
    def length(self) -> int:
        """Tokens of the longest candidate."""
        return max(len(row.ids) for row in self.rows)

    @property
    def tokens(self) -> int:
        """Tokens of all candidates."""
        return sum(len(row.ids) for row in self.rows)


def encode_groups(
    examples: Iterable[RankedExample],
    tokenizer: Any,
    *,
    max_length: int,
    needed: Needed,
    on_cut: OnCut = "no_end_token",
) -> tuple[list[Group], Counter[str]]:
    """Encode examples; nothing is ever truncated.

    A candidate is left out if it is longer than `max_length`, was cut off and is not wanted so, or
    has no token; if it is the target, or too little is left to learn from, the example is dropped.

    Returns:
        The groups in the order of the examples, and counts: "examples", "dropped_REASON",
        "candidates_REASON", "candidates_not_needed", and those of `AnswerEncoder`.
    """
    from itercli.training.answers import AnswerEncoder

    encoder = AnswerEncoder(tokenizer, on_cut)
    groups: list[Group] = []
    counts: Counter[str] = Counter(examples=0)
    for example in examples:
        counts["examples"] += 1
        chosen = needed(example.scores, example.target)
        if isinstance(chosen, str):
            counts[f"dropped_{chosen}"] += 1
            continue
        counts["candidates_not_needed"] += len(example.responses) - len(chosen)
        rows: dict[int, Row] = {}
        prompt = encoder.prompt(example.messages)
        gone: dict[int, str] = {}
        for i in chosen:
            found = example.sampled(i)
            answer = encoder.answer(prompt, example.responses[i], *found)
            row = None if answer is None else Row.of(prompt.ids, answer)
            if row is None:
                gone[i] = "cut"
            elif len(row.ids) > max_length:
                gone[i] = "too_long"
            elif row.response_len < 1:
                gone[i] = "empty"
            else:
                rows[i] = row
        if gone:
            counts.update(f"candidates_{reason}" for reason in gone.values())
            lost = example.target if example.target in gone else next(iter(gone))
            if not rows or lost == example.target:
                counts[f"dropped_{gone[lost]}"] += 1
                continue
            # With a candidate gone, the rest may no longer differ in score.
            kept = list(rows)
            target = None if example.target is None else kept.index(example.target)
            again = needed([example.scores[i] for i in kept], target)
            if isinstance(again, str):
                counts[f"dropped_{gone[lost]}"] += 1
                continue
            chosen = [kept[i] for i in again]
        groups.append(
            Group(
                example.prompt_id,
                tuple(rows[i] for i in chosen),
                tuple(example.scores[i] for i in chosen),
                None if example.target is None else chosen.index(example.target),
            )
        )
    counts.update(encoder.counts)
    return groups, counts


def plan_steps(
    n: int, *, batch_size: int, epochs: float, max_steps: int | None, seed: int
) -> list[list[int]]:
    """Which examples each optimizer step takes.

    Each epoch is a fresh permutation, seeded by (seed, epoch), cut into batches; the last
    one of an epoch is smaller if `batch_size` does not divide `n`. A fraction of an epoch
    is rounded up to whole steps.
    """
    if n < 1:
        return []
    per_epoch = math.ceil(n / batch_size)
    total = max_steps if max_steps is not None else math.ceil(epochs * per_epoch)
    steps: list[list[int]] = []
    for epoch in range(math.ceil(total / per_epoch)):
        order = list(range(n))
        random.Random(seed_for(seed, "order", epoch)).shuffle(order)
        steps += [order[i : i + batch_size] for i in range(0, n, batch_size)]
    return steps[:total]


AnyItem = TypeVar("AnyItem", bound=Item)


def micro_batches(groups: Sequence[AnyItem], size: int) -> Iterator[list[AnyItem]]:
    """Cut a step into forward passes of `size` examples of similar length, longest first.

    Longest first so that a step that does not fit into memory fails at once.
    """
    ordered = sorted(groups, key=lambda g: -g.length)
    for i in range(0, len(ordered), size):
        yield ordered[i : i + size]


def length_buckets(rows: Sequence[Row], min_tokens: int) -> list[list[int]]:
    """Indices of rows to pad together, so that little of the work goes into padding.

    A bucket takes rows of at least three quarters of its longest, and shorter ones only
    while it is too small (`min_tokens`) to be worth a forward pass of its own.
    """
    buckets: list[list[int]] = []
    longest = tokens = 0
    for i in sorted(range(len(rows)), key=lambda i: -len(rows[i].ids)):
        length = len(rows[i].ids)
        if not buckets or (length < 0.75 * longest and tokens >= min_tokens):
            buckets.append([])
            longest, tokens = length, 0
        buckets[-1].append(i)
        tokens += length
    return buckets


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded rows of a forward pass.

    Attributes:
        input_ids: [rows, length], padded on the right.
        labels: [rows, kept] next-token ids of the last `kept` positions; -100 outside responses.
        kept: Number of positions, counted from the end, whose logits are needed.
        tokens: Real tokens, padding not counted.
    """

    input_ids: Tensor
    labels: Tensor
    kept: int
    tokens: int


def pad_rows(rows: Sequence[Row], device: torch.device) -> Batch:
    """Pad rows on the right.

    There is no attention mask: under causal attention a token never sees the padding on
    its right, and without a mask attention takes its fast path. The padding id is 0, since
    no label ever points at it.
    """
    length = max(len(r.ids) for r in rows)
    first = min(r.prompt_len for r in rows) - 1
    input_ids = np.zeros((len(rows), length), dtype=np.int64)
    labels = np.full((len(rows), length), -100, dtype=np.int64)
    for i, row in enumerate(rows):
        input_ids[i, : len(row.ids)] = row.ids
        labels[i, row.prompt_len - 1 : len(row.ids) - 1] = row.ids[row.prompt_len :]
        for begin, end in row.gaps:
            labels[i, begin - 1 : end - 1] = -100
    return Batch(
        torch.from_numpy(input_ids).to(device),
        torch.from_numpy(np.ascontiguousarray(labels[:, first:])).to(device),
        length - first,
        sum(len(r.ids) for r in rows),
    )

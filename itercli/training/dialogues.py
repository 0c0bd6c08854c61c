"""Dialogues as tokens: every learnt turn as it is sampled, in as few sequences as the template allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from itercli.records import Dialogue
from itercli.sampling.prompting import encode_example
from itercli.training.collate import Group, Row


def encode_dialogues(
    dialogues: Iterable[Dialogue], tokenizer: Any, *, max_length: int
) -> tuple[list[Group], Counter[str]]:
    """Encode dialogues; nothing is ever truncated.

    Dialogues with a learnt turn that ends behind `max_length` tokens are dropped, as are those
    without a learnt turn. What follows the last learnt turn is left out.

    Returns:
        A group for each dialogue that is kept, in their order, and counts: "examples",
        "dropped_REASON", "learnt_turns", "sequences" (more than groups where the template
        rewrites history).

    Raises:
        ValueError: Flags that don't fit the messages.
    """
    groups: list[Group] = []
    counts: Counter[str] = Counter(examples=0)
    for dialogue in dialogues:
        counts["examples"] += 1
        _check(dialogue)
        if not any(dialogue.loss):
            counts["dropped_no_learnt_turn"] += 1
            continue
        rows = _rows(dialogue, tokenizer, max_length)
        if not rows:
            counts["dropped_too_long"] += 1
            continue
        counts["learnt_turns"] += sum(dialogue.loss)
        counts["sequences"] += len(rows)
        groups.append(Group(dialogue.prompt_id, rows, (0.0,) * len(rows), None))
    return groups, counts


def _rows(dialogue: Dialogue, tokenizer: Any, max_length: int) -> tuple[Row, ...]:
    """Sequences in which each learnt turn is a target once; empty if one is too long.

    A turn goes on in the sequence before if its prompt begins with that. Templates that drop
    something of earlier turns (thoughts, a date) break this, and their turns stand alone.
    """
    found: list[tuple[list[int], int, tuple[tuple[int, int], ...]]] = []
    for i, learnt in enumerate(dialogue.loss):
        if not learnt:
            continue
        ids, start = encode_example(tokenizer, dialogue.messages[:i], dialogue.messages[i].content)
        if len(ids) > max_length:
            return ()
        before, first, gaps = found[-1] if found else ([], 0, ())
        if found and ids[: len(before)] == before and len(before) <= start:
            found[-1] = (ids, first, (*gaps, (len(before), start)))
        else:
            # Nothing predicts the very first token, so it can't be a target.
            found.append((ids, max(start, 1), ()))
    return tuple(Row(np.asarray(ids, dtype=np.int32), first, gaps) for ids, first, gaps in found)


def _check(dialogue: Dialogue) -> None:
    where = f"dialogue {dialogue.key}"
    if len(dialogue.loss) != len(dialogue.messages):
        raise ValueError(
            f"{where} has {len(dialogue.messages)} messages and {len(dialogue.loss)} loss flags; one for each"
        )
    for message, learnt in zip(dialogue.messages, dialogue.loss, strict=True):
        if learnt and message.role != "assistant":
            raise ValueError(
                f"{where} has a loss flag on a turn of the {message.role}; only the assistant learns"
            )

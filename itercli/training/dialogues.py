"""Dialogues as tokens: every learnt turn as it is sampled, in as few sequences as the template allows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from itercli.records import Dialogue, Message
from itercli.sampling.prompting import EncodedPrompt, prompt_of, render
from itercli.sampling.tokenizer_facts import facts
from itercli.training.answers import AnswerEncoder
from itercli.training.base import OnCut
from itercli.training.collate import Group, Row


def encode_dialogues(
    dialogues: Iterable[Dialogue],
    tokenizer: Any,
    *,
    max_length: int,
    on_cut: OnCut = "no_end_token",
) -> tuple[list[Group], Counter[str]]:
    """Encode dialogues; nothing is ever truncated.

    Dialogues with a learnt turn that ends behind `max_length` tokens are dropped, as are those
    without a learnt turn. What follows the last learnt turn is left out.

    Args:
        on_cut: What becomes of turns that the token limit cut off; "drop" leaves them unlearnt.

    Returns:
        A group for each dialogue that is kept, in their order, and counts: "examples",
        "dropped_REASON", "learnt_turns", "sequences" (more than groups where the template
        rewrites history, or encodes a sampled turn in other ids), and those of `AnswerEncoder`.

    Raises:
        ValueError: Flags that don't fit the messages, or a tokenizer without an end-of-turn token.
    """
    answers = AnswerEncoder(tokenizer, on_cut)
    encoder = _Encoder(tokenizer, answers)
    groups: list[Group] = []
    counts: Counter[str] = Counter(examples=0)
    for dialogue in dialogues:
        counts["examples"] += 1
        _check(dialogue)
        if not any(dialogue.loss):
            counts["dropped_no_learnt_turn"] += 1
            continue
        turns = encoder.turns(dialogue)
        if not turns:
            counts["dropped_cut"] += 1
            continue
        rows = _rows(turns, max_length)
        if not rows:
            counts["dropped_too_long"] += 1
            continue
        counts["learnt_turns"] += len(turns)
        counts["sequences"] += len(rows)
        groups.append(Group(dialogue.prompt_id, rows, (0.0,) * len(rows), None))
    counts.update(answers.counts)
    return groups, counts


def _rows(turns: Iterable[tuple[list[int], list[int]]], max_length: int) -> tuple[Row, ...]:
    """Sequences in which each learnt turn is a target once; empty if one is too long.

    A turn goes on in the sequence before if its prompt begins with that. Templates that drop
    something of earlier turns (thoughts, a date) break this, and their turns stand alone.

    Args:
        turns: (prompt, answer) of each learnt turn.
    """
    found: list[tuple[list[int], int, tuple[tuple[int, int], ...]]] = []
    for prompt, answer in turns:
        ids, start = [*prompt, *answer], len(prompt)
        if len(ids) > max_length:
            return ()
        before, first, gaps = found[-1] if found else ([], 0, ())
        if found and ids[: len(before)] == before and len(before) <= start:
            found[-1] = (ids, first, (*gaps, (len(before), start)))
        else:
            # Nothing predicts the very first token, so it can't be a target.
            found.append((ids, max(start, 1), ()))
    return tuple(Row(np.asarray(ids, dtype=np.int32), first, gaps) for ids, first, gaps in found)


class _Encoder:
    """Prompts and answers as in sampling, without encoding a conversation anew for each of its turns.

    Tokenizers cut a text at their added tokens (special ones, which end turns) and encode what is
    between by itself. Pieces that were encoded once are taken again, but only if the pieces of the
    longest prompt are its ids: where they are not, each prompt is encoded as a whole.
    """

    def __init__(self, tokenizer: Any, answers: AnswerEncoder) -> None:
        self.tokenizer, self.answers = tokenizer, answers
        pattern = facts(tokenizer).added.pattern
        self.cut = re.compile(f"({pattern})")
        self.piece = lru_cache(maxsize=4096)(self._plain)

    def turns(self, dialogue: Dialogue) -> list[tuple[list[int], list[int]]]:
        """Ids of (prompt, answer) of each turn that is learnt."""
        learnt = [i for i, flag in enumerate(dialogue.loss) if flag]
        found = []
        for i, prompt in zip(learnt, self.prompts(dialogue.messages, learnt), strict=True):
            answer = self.answers.answer(prompt, dialogue.messages[i].content, *dialogue.sampled(i))
            if answer is not None:
                found.append((prompt.ids, answer))
        return found

    def prompts(self, messages: Sequence[Message], turns: Sequence[int]) -> list[EncodedPrompt]:
        """The prompt of each of these turns (positions in `messages`, ascending)."""
        longest = messages[: turns[-1]]
        whole = self.answers.prompt(longest)
        if len(turns) == 1:
            return [whole]
        plain = not facts(self.tokenizer).holds_control(m.content for m in longest)
        if plain and self._joined(render(self.tokenizer, longest)) == whole.ids:
            texts = [render(self.tokenizer, messages[:i]) for i in turns]
            return [EncodedPrompt(self.tokenizer, text, self._joined(text)) for text in texts]
        return [prompt_of(self.tokenizer, messages[:i]) for i in turns]

    def _joined(self, text: str) -> list[int]:
        pieces = self.cut.split(text)
        return [token for piece in pieces if piece for token in self.piece(piece)]

    def _plain(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


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

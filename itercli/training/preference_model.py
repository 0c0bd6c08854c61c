"""Pairwise preference models: a causal LM that answers "A" or "B".

Source: RLHF Workflow (arXiv 2405.07863), pairwise preference model of RLHFlow: the preference is
p(A) / (p(A) + p(B)), averaged over both orders of the answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from itercli.records import Message
from itercli.sampling.prompting import encode_prompt

# All at once: what stands in the answers is no place to be filled.
_PLACE = re.compile(r"\{(context|a|b)\}")
FRAME = "[CONTEXT] {context} [RESPONSE A] {a} [RESPONSE B] {b} \n"


def answer_ids(tokenizer: Any) -> tuple[int, int]:
    """Token ids of the answers "A" and "B".

    Raises:
        ValueError: One of them is not a single token.
    """
    ids = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("A", "B")]
    if any(len(i) != 1 for i in ids) or ids[0] == ids[1]:
        raise ValueError(f"its tokenizer writes A and B as {ids[0]} and {ids[1]}, not as one token each")
    return ids[0][0], ids[1][0]


def question(
    tokenizer: Any, messages: Sequence[Message], a: str, b: str, frame: str, limit: int
) -> tuple[list[int], int]:
    """Token ids of the question which of two answers is better, and how many tokens it lost.

    What is too long loses the beginning of the conversation.

    Args:
        frame: Text with the places {context}, {a} and {b}.
        limit: Longest question in tokens.

    Raises:
        ValueError: The answers alone are too long.
    """
    turns = [m.content if len(messages) == 1 else f"{m.role}: {m.content}" for m in messages]
    context = "\n".join(turns)
    lost = 0
    while True:
        parts = {"context": context, "a": a, "b": b}
        text = "".join(parts.get(p, p) if n % 2 else p for n, p in enumerate(_PLACE.split(frame)))
        ids = encode_prompt(tokenizer, [Message(role="user", content=text)])
        over = len(ids) - limit
        if over <= 0:
            return ids, lost
        words = list(tokenizer(context, add_special_tokens=False)["input_ids"])
        if not words:
            raise ValueError(f"two answers take {len(ids)} tokens, more than max_length = {limit}")
        context = tokenizer.decode(words[over:]) if over < len(words) else ""
        lost += min(over, len(words))


def prefers_first(model: Any, rows: Sequence[Sequence[int]], answers: tuple[int, int]) -> list[float]:
    """p(A) / (p(A) + p(B)) of each question, from one forward pass.

    Args:
        model: A causal language model in evaluation mode.
        rows: Token ids of questions; padded on the left, so that all end at the last position.
        answers: Token ids of "A" and "B".
    """
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=positions.to(model.device),
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1, list(answers)]
    return logits.double().softmax(-1)[:, 0].tolist()

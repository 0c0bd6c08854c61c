"""What classifiers read: a conversation with an answer, or a request with two answers.

Training and inference share these, so a model never sees a frame that it was not trained on.
Everything goes through the classifier's own chat template and tokenizer: a policy's token ids
mean nothing to another model. Control tokens in the texts stay text, as in prompts
(`itercli.sampling.tokenizer_facts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itercli.records import Message, ModelRef
from itercli.sampling.tokenizer_facts import facts

_MARK = "itercli-text-mark"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of an input.

    Attributes:
        cut: Tokens that were left out to make it fit.
    """

    ids: list[int]
    cut: int


def input_limit(ref: ModelRef, tokenizer: Any, max_length: int) -> int:
    """Longest input in tokens: `max_length`, or less where the model's context is shorter."""
    from itercli.training.likelihood import context_length

    # Tokenizers without a limit say so with a huge number.
    return int(min(max_length, context_length(ref), getattr(tokenizer, "model_max_length", max_length)))


def reward_input(tokenizer: Any, messages: Sequence[Message], answer: str, limit: int) -> Encoded:
    """A conversation that ends with `answer`.

    Without a chat template, encoders get the pair (conversation, answer) in their own form, and
    others the contents joined by newlines with an end token, on which they are read. What is too
    long loses its left end, behind a leading special token.

    Args:
        limit: Longest result in tokens.
    """
    about = facts(tokenizer)
    if getattr(tokenizer, "chat_template", None):
        turns = [{"role": m.role, "content": about.hide(m.content)} for m in messages]
        turns.append({"role": "assistant", "content": about.hide(answer)})
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        # The template has written its special tokens, a BOS among them.
        ids = _ids(tokenizer, text)
    else:
        before, answer = about.hide("\n".join(m.content for m in messages)), about.hide(answer)
        if tokenizer.sep_token_id is not None:
            ids = about.encode(before, answer, special=True)
        else:
            ids = about.encode(f"{before}\n{answer}", special=True)
            ids += _end(tokenizer, ids)
    while tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        ids.pop(0)
    cut = max(len(ids) - limit, 0)
    if cut:
        first = int(ids[0] in (tokenizer.bos_token_id, tokenizer.cls_token_id))
        ids = ids[:first] + ids[first + cut :]
    return Encoded(ids, cut)


def comparison_input(
    tokenizer: Any, messages: Sequence[Message], first: str, second: str, limit: int
) -> Encoded:
    """A request and two answers in one text, inside one user turn where there is a chat template.

    What is too long loses the left end of the request; where both answers are too long even
    without it, they lose their ends, the longer one more, whichever stands first.

    Raises:
        ValueError: `limit` leaves no room for the answers.
    """
    head, tail = _frame(tokenizer)
    shown = [m.content if len(messages) == 1 else f"{m.role}: {m.content}" for m in messages]
    labels = [_ids(tokenizer, text) for text in ("Request: ", "\nAnswer 1: ", "\nAnswer 2: ")]
    hide = facts(tokenizer).hide
    request, one, two = (_ids(tokenizer, hide(text)) for text in ("\n".join(shown), first, second))
    room = limit - sum(map(len, (head, tail, *labels)))
    if room < 2:
        raise ValueError(f"{limit} tokens leave no room for two answers; raise max_length")
    whole = len(request) + len(one) + len(two)
    half = room // 2
    sizes = (max(half, room - len(two)), max(half, room - len(one)))
    one, two = one[: sizes[0]], two[: sizes[1]]
    request = request[max(len(request) + len(one) + len(two) - room, 0) :]
    ids = head + labels[0] + request + labels[1] + one + labels[2] + two + tail
    return Encoded(ids, whole - len(request) - len(one) - len(two))


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokens before and behind a text that stands alone."""
    if getattr(tokenizer, "chat_template", None):
        turn = [{"role": "user", "content": _MARK}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        before, _, after = text.partition(_MARK)
        return _ids(tokenizer, before), _ids(tokenizer, after)
    with_special, plain = list(tokenizer("a")["input_ids"]), _ids(tokenizer, "a")
    n = next(i for i in range(len(with_special)) if with_special[i : i + len(plain)] == plain)
    head, tail = with_special[:n], with_special[n + len(plain) :]
    return head, tail or _end(tokenizer, head)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return facts(tokenizer).encode(text)


def _end(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """The end token, if there is one and `ids` don't end with it."""
    end = tokenizer.eos_token_id
    return [] if end is None or (ids and ids[-1] == end) else [end]

"""Messages to token ids: the one place for it, shared by sampling and training.

If a model is trained on other ids than it is sampled with, every loop degrades silently;
so a training example is the very prompt ids of sampling, then the response's ids, then the
end-of-turn token that stops a completion. A turn that is continued is the same: the prompt's
ids, then those of what stands there already. The template never sees an open turn, so it can
neither close it, nor trim it, nor refuse it, and the model's state is the one in which it would
have written that text itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from itercli.records import Message

# Stands for an assistant's answer when a template is asked what follows one.
_MARK = "itercli-answer-mark"


def render(tokenizer: Any, messages: Sequence[Message], continue_final: bool = False) -> str:
    """The prompt as text: through the chat template, or contents joined by newlines.

    Args:
        tokenizer: A transformers tokenizer.
        messages: The conversation so far.
        continue_final: Leave the last (assistant) message open instead of opening a new turn:
            its content stands unchanged at the end.

    Raises:
        ValueError: The message to continue is not the assistant's.
    """
    closed, opened = _open_turn(messages, continue_final)
    if not getattr(tokenizer, "chat_template", None):
        return "\n".join(message.content for message in closed) + opened
    turns = [{"role": message.role, "content": message.content} for message in closed]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + opened


def encode_prompt(tokenizer: Any, messages: Sequence[Message], continue_final: bool = False) -> list[int]:
    """Token ids of the prompt, with one BOS where the tokenizer or the template wants one.

    Templates write their special tokens themselves; without a template the tokenizer adds
    its own, except an EOS, which would end the prompt.
    """
    closed, opened = _open_turn(messages, continue_final)
    text = render(tokenizer, closed)
    templated = bool(getattr(tokenizer, "chat_template", None))
    bos = getattr(tokenizer, "bos_token", None)
    special = not templated and not (bos and text.startswith(bos))
    ids = list(tokenizer(text, add_special_tokens=special)["input_ids"])
    eos = getattr(tokenizer, "eos_token_id", None)
    if not templated and ids and ids[-1] == eos and not text.endswith(tokenizer.eos_token):
        ids.pop()
    return ids + list(tokenizer(opened, add_special_tokens=False)["input_ids"]) if opened else ids


def _open_turn(messages: Sequence[Message], continue_final: bool) -> tuple[Sequence[Message], str]:
    """The conversation before an open turn, and what stands in it already."""
    if not continue_final:
        return messages, ""
    if not messages or messages[-1].role != "assistant":
        raise ValueError("continue_final needs an assistant message at the end")
    return messages[:-1], messages[-1].content


def encode_example(tokenizer: Any, messages: Sequence[Message], response: str) -> tuple[list[int], int]:
    """Training ids of a prompt and its answer.

    Returns:
        (ids, prompt_len): prompt ids as in sampling, response ids, end-of-turn token; the
        targets are `ids[prompt_len:]`, the end-of-turn token always among them.

    Raises:
        ValueError: The tokenizer has no end-of-turn token.
    """
    prompt = encode_prompt(tokenizer, messages)
    answer = list(tokenizer(response, add_special_tokens=False)["input_ids"])
    end = end_of_turn_id(tokenizer)
    if end is None:
        raise ValueError("the tokenizer has neither an eos token nor a chat template that ends a turn")
    return [*prompt, *answer, end], len(prompt)


def end_of_turn_id(tokenizer: Any) -> int | None:
    """The token that ends an assistant's turn.

    With a chat template it is the first special token that the template writes after an
    answer (it is not always the tokenizer's eos: base checkpoints keep `<|endoftext|>`).
    """
    eos = getattr(tokenizer, "eos_token_id", None)
    if not getattr(tokenizer, "chat_template", None):
        return eos
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # templates are programs of the model's author: any error means "can't tell"
        return eos
    if _MARK not in text:
        return eos
    after = tokenizer(text.rsplit(_MARK, 1)[1], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(getattr(tokenizer, "added_tokens_decoder", {}))
    return next((token for token in after if token in special), eos)


def end_token_ids(tokenizer: Any, generation_config: Any = None) -> tuple[int, ...]:
    """All tokens that end a completion, sorted: end of turn, eos, and the model's own list.

    Args:
        generation_config: The model's generation config (or model config), or None.
    """
    ends: set[int] = set()
    listed = getattr(generation_config, "eos_token_id", None)
    for token in listed if isinstance(listed, list | tuple) else [listed]:
        if token is not None:
            ends.add(int(token))
    for token in (getattr(tokenizer, "eos_token_id", None), end_of_turn_id(tokenizer)):
        if token is not None:
            ends.add(int(token))
    return tuple(sorted(ends))

"""Messages to token ids: the one place for it, shared by sampling and training.

If a model is trained on other ids than it is sampled with, every loop degrades silently; so a
training example is the very prompt ids of sampling, then the ids that were sampled, then the
end-of-turn token that stops a completion. A text without ids is encoded *behind its prompt*: ids
that the prompt's own template would give the whole conversation, and not those of the text alone,
which SentencePiece tokenizers begin with a space that nobody wrote. A turn that is continued is the
same: the prompt's ids, then those of what stands there already. The template never sees an open
turn, so it can neither close it, nor trim it, nor refuse it, and the model's state is the one in
which it would have written that text itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from itercli.records import Message
from itercli.sampling.tokenizer_facts import TokenizerFacts, facts

# Tokens of a prompt that are decoded along with what follows it.
_BEFORE = 8
# Tried in turn as the text before one that does not join its prompt.
_ANCHORS = ("\n", "]", "0", "x", ".")


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as a model gets it.

    Attributes:
        text: As text, with stand-ins for control tokens in data (`TokenizerFacts.hide`).
        ids: As token ids, with one BOS where the tokenizer or the template wants one.
        opened: The assistant's turn has begun already.
    """

    tokenizer: Any
    text: str
    ids: list[int]
    opened: bool = False

    @property
    def meta(self) -> dict[str, Any]:
        """What samplers note of it (`Sampled.meta`)."""
        masked = facts(self.tokenizer).show(self.text) != self.text
        return {"prompt_tokens": len(self.ids)} | ({"control_text": True} if masked else {})

    @cached_property
    def _tail(self) -> tuple[str, list[int]]:
        """The prompt from its last added token on, where tokenizers cut: all that what follows can join."""
        about = facts(self.tokenizer)
        starts = [found.start() for found in about.added.finditer(self.text)]
        for start in [*starts[-1:], 0]:
            ids = about.encode(self.text[start:])
            if self.ids[len(self.ids) - len(ids) :] == ids:
                return self.text[start:], ids
        return "", []

    def behind(self, text: str, *, closed: bool = False) -> list[int]:
        """Ids of a text that follows the prompt, such that prompt and text are one conversation.

        Args:
            closed: The end of the turn follows.
        """
        about = facts(self.tokenizer)
        if text and not self.opened and not text[0].isspace():
            text = about.lead + text
        if text and closed and not text[-1].isspace():
            text += about.trail
        hidden = about.hide(text)
        found = self._joined(about, hidden)
        if found is not None:
            return found
        choices = self._alone(about, hidden)
        first = next(choices)
        if self.decode(first) == text:
            return first
        return next((ids for ids in choices if self.decode(ids) == text), first)

    def _joined(self, about: TokenizerFacts, hidden: str) -> list[int] | None:
        """From one encoding of both; None if they share a token."""
        before, ids = self._tail
        whole = about.encode(before + hidden)
        return whole[len(ids) :] if whole[: len(ids)] == ids else None

    def _alone(self, about: TokenizerFacts, hidden: str) -> Iterator[list[int]]:
        """From an encoding of the text alone, then behind texts that it shares no token with."""
        yield about.encode(hidden)
        for anchor in _ANCHORS:
            before, whole = about.encode(anchor), about.encode(anchor + hidden)
            if whole[: len(before)] == before:
                yield whole[len(before) :]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids that follow the prompt.

        Some tokenizers strip the space that a text begins with, so the prompt's last tokens are
        decoded along. Special tokens stand in it as their text.
        """
        before = self.ids[-_BEFORE:]
        head = _decode(self.tokenizer, before) if before else ""
        whole = _decode(self.tokenizer, [*before, *ids])
        return whole[len(head) :] if whole.startswith(head) else _decode(self.tokenizer, ids)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def prompt_of(tokenizer: Any, messages: Sequence[Message], continue_final: bool = False) -> EncodedPrompt:
    """A prompt as a model gets it; see `render` and `encode_prompt`.

    Raises:
        ValueError: The message to continue is not the assistant's.
    """
    closed, opened = _open_turn(messages, continue_final)
    about = facts(tokenizer)
    hidden = [m.model_copy(update={"content": about.hide(m.content)}) for m in closed]
    text = _rendered(tokenizer, hidden)
    templated = bool(getattr(tokenizer, "chat_template", None))
    bos = getattr(tokenizer, "bos_token", None)
    ids = about.encode(text, special=not templated and not (bos and text.startswith(bos)))
    eos = getattr(tokenizer, "eos_token_id", None)
    if not templated and ids and ids[-1] == eos:
        ids.pop()  # the tokenizer's own: it would end the prompt
    prompt = EncodedPrompt(tokenizer, text, ids)
    if not opened:
        return prompt
    lead = "" if opened[0].isspace() else about.lead
    return EncodedPrompt(
        tokenizer, text + lead + about.hide(opened), ids + prompt.behind(opened), opened=True
    )


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
    lead = facts(tokenizer).lead if opened and not opened[0].isspace() else ""
    return _rendered(tokenizer, closed) + lead + opened


def _rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    if not getattr(tokenizer, "chat_template", None):
        return "\n".join(message.content for message in messages)
    turns = [{"role": message.role, "content": message.content} for message in messages]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return text


def encode_prompt(tokenizer: Any, messages: Sequence[Message], continue_final: bool = False) -> list[int]:
    """Token ids of the prompt, with one BOS where the tokenizer or the template wants one.

    Templates write their special tokens themselves; without a template the tokenizer adds
    its own, except an EOS, which would end the prompt. Control tokens in the messages stay text.
    """
    return prompt_of(tokenizer, messages, continue_final).ids


def _open_turn(messages: Sequence[Message], continue_final: bool) -> tuple[Sequence[Message], str]:
    """The conversation before an open turn, and what stands in it already."""
    if not continue_final:
        return messages, ""
    if not messages or messages[-1].role != "assistant":
        raise ValueError("continue_final needs an assistant message at the end")
    return messages[:-1], messages[-1].content


def encode_example(tokenizer: Any, messages: Sequence[Message], response: str) -> tuple[list[int], int]:
    """Training ids of a prompt and a whole answer of which only the text is known.

    Returns:
        (ids, prompt_len): prompt ids as in sampling, response ids, end-of-turn token; the
        targets are `ids[prompt_len:]`, the end-of-turn token always among them.

    Raises:
        ValueError: The tokenizer has no end-of-turn token.
    """
    prompt = prompt_of(tokenizer, messages)
    end = needed_end(tokenizer)
    return [*prompt.ids, *prompt.behind(response, closed=True), end], len(prompt.ids)


def needed_end(tokenizer: Any) -> int:
    """The token that ends an assistant's turn.

    Raises:
        ValueError: There is none.
    """
    end = end_of_turn_id(tokenizer)
    if end is None:
        raise ValueError("the tokenizer has neither an eos token nor a chat template that ends a turn")
    return end


def end_of_turn_id(tokenizer: Any) -> int | None:
    """The token that ends an assistant's turn; see `TokenizerFacts.end`."""
    return facts(tokenizer).end


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

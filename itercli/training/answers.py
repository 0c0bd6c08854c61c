"""Answers as training targets: the ids that were sampled where they are known, else the text's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from itercli.records import Finish, Generated, Message
from itercli.sampling.prompting import EncodedPrompt, needed_end, prompt_of
from itercli.sampling.tokenizer_facts import facts
from itercli.training.base import OnCut


def sampled_ids(prompt: EncodedPrompt, text: str, generated: Generated | None) -> list[int] | None:
    """The ids that a text was sampled in, its end token included; None if they can't be used here.

    They can if the text is still that one, and the tokens are those of this tokenizer. Of a server,
    whose vocabulary is unknown, they can if under this one they spell the text and end the turn.
    """
    if generated is None or not generated.ids or not generated.of(text):
        return None
    about = facts(prompt.tokenizer)
    if generated.vocabulary:
        return generated.ids if generated.vocabulary == about.vocabulary else None
    if max(generated.ids) >= len(prompt.tokenizer) or (generated.ended and generated.ids[-1] != about.end):
        return None
    body = generated.ids[: len(generated.ids) - generated.ended]
    return generated.ids if prompt.decode(body) == text else None


def differs(prompt: EncodedPrompt, text: str, generated: Generated) -> bool:
    """Whether a text that was sampled in these ids would be encoded in others."""
    if generated.reencodes is not None:
        return not generated.reencodes
    body = generated.ids[: len(generated.ids) - generated.ended]
    return prompt.behind(text, closed=generated.ended) != body


class AnswerEncoder:
    """Encodes prompts and answers for training, and counts how.

    Args:
        tokenizer: That of the model that is trained.
        on_cut: What becomes of answers that the token limit cut off, see `TrainingSpec.on_cut`.

    Attributes:
        counts: "answers_sampled" (trained on in the very ids that were sampled), of these
            "answers_reencoded_differ" (their text alone would give other ids), "answers_other_ids" (ids
            that are not this tokenizer's or not of this text: the text was encoded), "answers_cut" (by
            the token limit), "texts_with_control_tokens" (answers, or prompts, whose text reads like a
            control token and was encoded as characters). Zeros are left out.

    Raises:
        ValueError: The tokenizer has no end-of-turn token.
    """

    def __init__(self, tokenizer: Any, on_cut: OnCut = "no_end_token") -> None:
        self.tokenizer, self.on_cut = tokenizer, on_cut
        self.end = needed_end(tokenizer)
        self.counts: Counter[str] = Counter()

    def prompt(self, messages: Sequence[Message]) -> EncodedPrompt:
        """A prompt as in sampling."""
        self._data(m.content for m in messages)
        return prompt_of(self.tokenizer, messages)

    def answer(
        self, prompt: EncodedPrompt, text: str, finish: Finish | None, generated: Generated | None
    ) -> list[int] | None:
        """Target ids, with at most one end token; None if the answer is to be left out."""
        cut = finish == "length"
        self._count("answers_cut", cut)
        if cut and self.on_cut == "drop":
            return None
        close = not cut or self.on_cut == "end_token"
        ids = sampled_ids(prompt, text, generated)
        if ids is None or generated is None:
            self._count("answers_other_ids", generated is not None)
            self._data([text])
            return [*prompt.behind(text, closed=close), *([self.end] if close else [])]
        self._count("answers_sampled", True)
        self._count("answers_reencoded_differ", differs(prompt, text, generated))
        return [*ids, *([self.end] if close and not generated.ended else [])]

    def _data(self, texts: Iterable[str]) -> None:
        self._count("texts_with_control_tokens", facts(self.tokenizer).holds_control(texts))

    def _count(self, name: str, happened: bool) -> None:
        if happened:
            self.counts[name] += 1

"""Facts about a tokenizer that sampling and training have to agree on, worked out once.

Control tokens are those that steer a model: what the tokenizer flags as special, and what ends a
turn. Only the template and we ourselves write them. Where *data* hold the text of one (a pasted
log with ``<|im_end|>`` in it), that text stays text: it is hidden from the template and from the
tokenizer's search for added tokens, and encoded as the characters that it is made of. So a prompt
can't end a turn or forge one, whoever wrote it. Added tokens without the flag, such as Qwen's
``<think>`` and ``<tool_call>``, are read as tokens everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import weakref
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

# Stands for an assistant's answer when a template is asked what surrounds one.
_MARK = "itercli-answer-mark"

_known: weakref.WeakKeyDictionary[Any, tuple[Any, TokenizerFacts]] = weakref.WeakKeyDictionary()


def facts(tokenizer: Any) -> TokenizerFacts:
    """What is known of a tokenizer; worked out anew if its template or its tokens have changed."""
    state = (
        getattr(tokenizer, "chat_template", None),
        getattr(tokenizer, "eos_token", None),
        getattr(tokenizer, "bos_token", None),
        len(tokenizer),
    )
    known = _known.get(tokenizer)
    if known is None or known[0] != state:
        known = _known[tokenizer] = (state, TokenizerFacts(tokenizer))
    return known[1]


class TokenizerFacts:
    """See `facts`.

    Args:
        tokenizer: A transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        # A proxy, since the tokenizer is the key under which this is kept.
        self._tokenizer = weakref.proxy(tokenizer)
        # Unguessable, so that no text can hold a stand-in by itself.
        self._nonce = secrets.token_hex(8)

    @cached_property
    def vocabulary(self) -> str:
        """Digest of all tokens with their ids: equal ones give ids the same meaning."""
        state = hashlib.sha256()
        for token, number in sorted(self._tokenizer.get_vocab().items(), key=lambda item: item[1]):
            state.update(f"{number}\0{token}\0".encode("utf-8", "surrogatepass"))
        return state.hexdigest()[:16]

    @cached_property
    def end(self) -> int | None:
        """The token that ends an assistant's turn; None if there is none.

        With a chat template it is the first added token that the template writes after an
        answer (it is not always the tokenizer's eos: base checkpoints keep `<|endoftext|>`).
        """
        eos: int | None = getattr(self._tokenizer, "eos_token_id", None)
        after = self._around[2]
        added = set(self._tokenizer.all_special_ids) | set(
            getattr(self._tokenizer, "added_tokens_decoder", {})
        )
        ids = self._tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
        return next((token for token in ids if token in added), eos)

    @cached_property
    def lead(self) -> str:
        """White space that the template writes between the prompt and an answer (Llama 2: one space)."""
        before, between, _ = self._around
        return between if before and between.isspace() else ""

    @cached_property
    def trail(self) -> str:
        """White space that the template writes between an answer and the token that ends its turn."""
        after = self._around[2]
        if self.end is None or not after:
            return ""
        between, found, _ = after.partition(self._tokenizer.convert_ids_to_tokens(self.end))
        return between if found and between.isspace() else ""

    @cached_property
    def _around(self) -> tuple[str, str, str]:
        """What the template writes before an answer (the prompt), right before it, and after it."""
        if not getattr(self._tokenizer, "chat_template", None):
            return "", "", ""
        ask = [{"role": "user", "content": "?"}]
        try:
            whole = self._tokenizer.apply_chat_template(
                [*ask, {"role": "assistant", "content": _MARK}], tokenize=False
            )
            prompt = self._tokenizer.apply_chat_template(ask, tokenize=False, add_generation_prompt=True)
        except Exception:  # templates are programs of the model's author: any error means "can't tell"
            return "", "", ""
        before, found, after = whole.rpartition(_MARK)
        if not found:
            return "", "", ""
        return (prompt, before[len(prompt) :], after) if before.startswith(prompt) else ("", "", after)

    @cached_property
    def controls(self) -> dict[str, int]:
        """Text -> id of the control tokens."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        found = {str(token): number for number, token in added.items() if token.special}
        ids = [i for i in (*self._tokenizer.all_special_ids, self.end) if i is not None]
        found |= {self._tokenizer.convert_ids_to_tokens(i): i for i in ids}
        return {text: number for text, number in found.items() if text}

    @cached_property
    def added(self) -> re.Pattern[str]:
        """Finds added tokens: tokenizers cut a text at them and encode what is between by itself."""
        return _any_of(self._tokenizer.get_added_vocab())

    @cached_property
    def _control(self) -> re.Pattern[str]:
        return _any_of(self.controls)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {text: n for n, text in enumerate(self.controls)}

    def hide(self, text: str) -> str:
        """Data with stand-ins for what reads like a control token."""
        return self._control.sub(lambda found: f"q{self._nonce}q{self._numbers[found[0]]}q", text)

    def show(self, text: str) -> str:
        """The text as it was before `hide`."""
        if self._nonce not in text:
            return text
        texts = list(self.controls)
        return re.sub(f"q{self._nonce}q([0-9]+)q", lambda found: texts[int(found[1])], text)

    def holds_control(self, texts: Iterable[str]) -> bool:
        """Whether data hold the text of a control token."""
        return any(self._control.search(text) for text in texts)

    def encode(self, text: str, pair: str | None = None, *, special: bool = False) -> list[int]:
        """Ids of a text in which data are hidden.

        Args:
            pair: A second text, in the tokenizer's own form for two.
            special: Let the tokenizer add its own special tokens.
        """
        texts = [one for one in (text, pair) if one is not None]
        if self._plain is None or not any(self._nonce in one for one in texts):
            return list(self._tokenizer(*map(self.show, texts), add_special_tokens=special)["input_ids"])
        tokenizer, aliases, ids = self._plain
        named = [self.show(self._control.sub(lambda found: aliases[found[0]], one)) for one in texts]
        return [ids.get(i, i) for i in tokenizer.encode(*named, add_special_tokens=special).ids]

    @cached_property
    def _plain(self) -> tuple[Any, Mapping[str, str], Mapping[int, int]] | None:
        """A copy of the tokenizer that knows control tokens by other names, these names, and its ids.

        None for tokenizers written in Python, which have no copy to rename them in.
        """
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        from tokenizers import Tokenizer

        aliases = {text: f"a{self._nonce}a{n}a" for text, n in self._numbers.items()}
        state = json.loads(backend.to_str())
        state["truncation"] = state["padding"] = None
        for token in state["added_tokens"]:
            token["content"] = aliases.get(token["content"], token["content"])
        copy = Tokenizer.from_str(json.dumps(state))
        # A token that the model's own vocabulary holds gets another id under its new name.
        numbers: dict[str, int] = self._tokenizer.get_added_vocab()
        found = {copy.token_to_id(aliases.get(text, text)): number for text, number in numbers.items()}
        ids = {named: number for named, number in found.items() if named is not None}
        return copy, aliases, ids


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Finds any of some texts, the longer ones first."""
    ordered = sorted((text for text in texts if text), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")

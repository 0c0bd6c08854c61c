"""Stop strings: which tokens can end one."""

from __future__ import annotations

from typing import Any

import torch


class StopTables:
    """For each set of stop strings, a table over the vocabulary of tokens that may complete one.

    Looking up one table entry per row and step is all that most steps pay; only rows that hit
    decode their last tokens.

    Args:
        tokenizer: The policy's tokenizer.
        vocab: Rows of the model's output layer.
        device: Where the tables live.
    """

    def __init__(self, tokenizer: Any, vocab: int, device: torch.device) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._index: dict[tuple[str, ...], int] = {(): 0}
        self._tables = torch.zeros((1, vocab), dtype=torch.bool, device=device)
        self._texts: list[tuple[str, str]] | None = None

    def index(self, stop: tuple[str, ...]) -> int:
        """Number of the set; 0 is the empty one."""
        if stop not in self._index:
            self._index[stop] = len(self._index)
            row = torch.tensor([self._table(stop)], dtype=torch.bool, device=self._tables.device)
            self._tables = torch.cat([self._tables, row])
        return self._index[stop]

    def may_end(self, sets: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Per row, whether its new token could complete a string of its set; bool [B]."""
        return self._tables[sets, tokens]

    def tail(self, stop: tuple[str, ...]) -> int:
        """How many last tokens surely cover a stop string: one per byte, and some without text."""
        return max(len(s.encode()) for s in stop) + 16

    def _table(self, stop: tuple[str, ...]) -> list[bool]:
        lasts = {s[-1] for s in stop if s}
        if not lasts:
            return [False] * self._vocab
        if " " in lasts or max(map(ord, lasts)) > 127:
            # Tokenizers hide spaces and split characters into bytes: look at every token.
            return [True] * self._vocab
        table = [any(c in text or c in raw for c in lasts) for text, raw in self._token_texts()]
        return table[: self._vocab] + [False] * (self._vocab - len(table))

    def _token_texts(self) -> list[tuple[str, str]]:
        if self._texts is None:
            ids = range(min(self._vocab, len(self._tokenizer)))
            raw = self._tokenizer.convert_ids_to_tokens(list(ids))
            texts = self._tokenizer.batch_decode([[i] for i in ids], skip_special_tokens=False)
            self._texts = [(text, piece or "") for text, piece in zip(texts, raw, strict=True)]
        return self._texts

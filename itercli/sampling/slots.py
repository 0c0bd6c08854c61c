"""The KV cache of the decode loop: a fixed number of slots, each at its own length.

Why results do not depend on the batch on CPU in float32: every decode step has the same
number of rows, positions behind a row's end carry attention weight exactly zero, the KV
length is a multiple of `STRIDE` (so that zeros pad whole vector lanes), and the matrix
products of attention keep to at most three query rows per KV head: with more, or through the
fused kernel's matrix-vector path, MKL changes its order of summation with the KV length or
the thread. Free slots are left out of attention, whose products are one per slot and KV head
whatever the call holds. In half precision the fused kernel rounds otherwise beside other rows,
rarely but often enough to change texts, so there each row is a call over its own length, for
about 7 % of the time of a small model's step. `tests/sampling` and a check at load time hold
this to account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, Cache
from transformers.cache_utils import CacheLayerMixin, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from itercli.sampling.base import SamplerError

STRIDE = 128
ATTENTION = "itercli_slots"

# One prompt's keys and values, a pair per layer, each [1, heads, length, width].
PromptKV = list[tuple[torch.Tensor, torch.Tensor]]

# Slots that attend in one call, and to how many positions.
Runs = list[tuple[slice, int]]


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token per row; anything else goes to transformers' SDPA.

    Query heads that share a KV head become rows of one product, so grouped-query models
    read their cache in place, where transformers copies it once per step.

    Args:
        query: [B, heads, 1, width].
        key: [B, KV heads, L, width]; `value` likewise.
        attention_mask: Additive, [B, 1, 1, L].
    """
    batch, heads, length, width = query.shape
    shared = key.shape[1]
    plain = length == 1 and heads % shared == 0 and kwargs.get("position_bias") is None
    if (
        not plain
        or attention_mask is None
        or attention_mask.shape[1] != 1
        or not attention_mask.dtype.is_floating_point
    ):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    grouped = query.reshape(batch, shared, heads // shared, width)
    runs: Runs = getattr(key, "runs", [(slice(0, batch), key.shape[2])])
    scale = width**-0.5 if scaling is None else scaling
    parts = [
        _attend(grouped[run], key[run, :, :end], value[run, :, :end], attention_mask[run, ..., :end], scale)
        for run, end in runs
    ]
    if len(parts) == 1 and parts[0].shape[0] == batch:
        out = parts[0]
    else:
        out = torch.zeros_like(grouped)  # finite in free slots, whose result nobody reads
        for (run, _), part in zip(runs, parts, strict=True):
            out[run] = part
    return out.reshape(batch, 1, heads, value.shape[-1]), None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention of the rows of `query` [B, KV heads, rows, width] that share a KV head."""
    if query.device.type == "cpu" and query.dtype == torch.float32:
        # At most three rows per product: see the module's docstring.
        parts = [query] if query.shape[2] <= 3 else query.split(2, dim=2)
        outputs = []
        for part in parts:
            weights = torch.matmul(part, key.transpose(2, 3)).mul_(scale).add_(mask)
            outputs.append(torch.matmul(torch.softmax(weights, dim=-1), value))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


AttentionInterface.register(ATTENTION, slot_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class _SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, [slots, KV heads, capacity, width]."""

    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._new(key_states)
        self.values = self._new(value_states)
        self.is_initialized = True

    def _new(self, like: torch.Tensor) -> torch.Tensor:
        # Zeros, not empty: masked positions are multiplied by zero and must be finite.
        return like.new_zeros((self.cache.slots, like.shape[1], self.cache.capacity, like.shape[3]))

    def grow(self) -> None:
        for name in ("keys", "values"):
            old = getattr(self, name)
            if old is not None:
                new = self._new(old)
                new[:, :, : old.shape[2]] = old
                setattr(self, name, new)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if key_states.shape[2] != 1:
            raise SamplerError("the slot cache takes one token per row")
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.cache.length
        return self._write(self.keys, key_states, length), self._write(self.values, value_states, length)

    def _write(self, store: torch.Tensor, new: torch.Tensor, length: int) -> torch.Tensor:
        where = self.cache.flat_index(store.shape[1])
        store.view(-1, store.shape[3]).index_copy_(0, where, new.reshape(-1, new.shape[3]))
        view: Any = store[:, :, :length]
        # The tensor is all that reaches `slot_attention`.
        view.runs = self.cache.runs if store.dtype == torch.float32 else self.cache.alone
        return view

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.length, 0

    def get_seq_length(self) -> int:
        return self.cache.length - 1

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):
    """Static cache whose rows stand at different positions.

    Args:
        slots: Number of rows.
        device: Where positions live.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        super().__init__(layers=[])
        self.layers: list[Any]
        self.slots = slots
        self.device = device
        self.capacity = STRIDE
        self.length = STRIDE
        self.runs: Runs = [(slice(0, slots), STRIDE)]
        self.alone = self.runs
        self._positions = torch.zeros(slots, dtype=torch.int64, device=device)
        self._flat: dict[int, torch.Tensor] = {}
        self._columns = torch.arange(self.capacity, device=device)

    def _layer(self, index: int) -> _SlotLayer:
        while len(self.layers) <= index:
            self.layers.append(_SlotLayer(self))
        return self.layers[index]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._layer(layer_idx).update(key_states, value_states)

    def reserve(self, length: int) -> None:
        """Make room for `length` positions per slot; doubles, so that copies stay rare."""
        if length > self.capacity:
            self.capacity = _round_up(max(length, 2 * self.capacity))
            self._columns = torch.arange(self.capacity, device=self.device)
            for layer in self.layers:
                layer.grow()

    def insert(self, slot: int, prompt: PromptKV) -> None:
        """Put a prefilled prompt into a slot."""
        self.reserve(prompt[0][0].shape[2] + 1)
        for index, (keys, values) in enumerate(prompt):
            layer = self._layer(index)
            if not layer.is_initialized:
                layer.lazy_initialization(keys, values)
            layer.keys[slot, :, : keys.shape[2]] = keys[0]
            layer.values[slot, :, : values.shape[2]] = values[0]

    def begin_step(self, positions: torch.Tensor, longest: int, live: Sequence[int]) -> None:
        """Set where each row's next token goes.

        Args:
            longest: The largest position.
            live: Slots whose result matters, ascending.
        """
        self.reserve(longest + 1)
        self.length = _round_up(longest + 1)
        self.alone = self.runs = [(run, self.length) for run in runs_of(live)]
        if self.device.type == "cpu":
            ends = positions.tolist()
            self.alone = [(slice(slot, slot + 1), _round_up(ends[slot] + 1)) for slot in live]
        self._positions = positions
        self._flat.clear()

    def flat_index(self, heads: int) -> torch.Tensor:
        """Row of each (slot, head)'s new token in a store seen as [slots * heads * capacity, width]."""
        found = self._flat.get(heads)
        if found is None:
            starts = torch.arange(self.slots * heads, device=self.device) * self.capacity
            found = starts + self._positions.repeat_interleave(heads)
            self._flat[heads] = found
        return found

    def mask(self, kind: str, config: Any, dtype: torch.dtype) -> torch.Tensor:
        """Additive mask [slots, 1, 1, length] of a layer kind for the step begun.

        Raises:
            SamplerError: The kind keeps no keys per position (recurrent layers).
        """
        columns, last = self._columns[: self.length], self._positions[:, None]
        seen = columns <= last
        if kind == "sliding_attention":
            seen &= columns > last - config.sliding_window
        elif kind == "chunked_attention":
            seen &= columns >= last - last % config.attention_chunk_size
        elif kind != "full_attention":
            raise SamplerError(f"layers of type {kind!r} can't be decoded in slots; use sampler=vllm")
        out = torch.zeros(seen.shape, dtype=dtype, device=self.device)
        return out.masked_fill_(~seen, torch.finfo(dtype).min)[:, None, None, :]

    def masks(self, config: Any, dtype: torch.dtype) -> torch.Tensor | dict[str, torch.Tensor]:
        """What to pass as attention_mask: one mask, or one per layer type where the model mixes them."""
        types = getattr(config, "layer_types", None)
        if types is not None:
            return {kind: self.mask(kind, config, dtype) for kind in sorted(set(types))}
        if getattr(config, "sliding_window", None) is not None:
            return self.mask("sliding_attention", config, dtype)
        if getattr(config, "attention_chunk_size", None) is not None:
            return self.mask("chunked_attention", config, dtype)
        return self.mask("full_attention", config, dtype)


def runs_of(slots: Sequence[int]) -> list[slice]:
    """Ascending slot numbers as runs of neighbours."""
    runs: list[slice] = []
    for slot in slots:
        if runs and runs[-1].stop == slot:
            runs[-1] = slice(runs[-1].start, slot + 1)
        else:
            runs.append(slice(slot, slot + 1))
    return runs


def _round_up(length: int) -> int:
    return -(-length // STRIDE) * STRIDE


def check_slottable(model: Any) -> None:
    """Refuse models whose memory is not keys and values per position.

    Raises:
        SamplerError: Recurrent, hybrid or encoder-decoder model.
    """
    config = model.config.get_text_config()
    known = {"full_attention", "sliding_attention", "chunked_attention"}
    odd = sorted(set(getattr(config, "layer_types", None) or ()) - known)
    if odd or getattr(model, "_is_stateful", False) or getattr(config, "is_encoder_decoder", False):
        what = f"layers of type {', '.join(odd)}" if odd else "a recurrent state"
        raise SamplerError(
            f"{type(model).__name__} has {what}, which can't be decoded in slots; use sampler=vllm or openai"
        )


def prompt_kv(cache: DynamicCache, length: int) -> PromptKV:
    """Keys and values of a prefilled cache.

    Raises:
        SamplerError: A layer does not hold one key per prompt position.
    """
    pairs: PromptKV = []
    for layer in cache.layers:
        if (
            type(layer) is not DynamicLayer
            or layer.keys is None
            or layer.values is None
            or layer.keys.shape[2] != length
        ):
            raise SamplerError("the model's cache can't be split into slots; use sampler=vllm or openai")
        pairs.append((layer.keys, layer.values))
    if not pairs:
        raise SamplerError("the model keeps no key-value cache; use sampler=vllm or openai")
    return pairs

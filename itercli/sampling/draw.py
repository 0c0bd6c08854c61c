"""Drawing tokens: every row from its own counter-based random stream.

A row's n-th uniform is a pure function of (seed, n), so neither neighbours in the batch nor
a restart change what is drawn. All operations work along rows and give a row the same bits
whatever the other rows hold.
"""

from __future__ import annotations

import torch

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64 (torch's is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def splitmix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's output function (Steele, Lea, Flood 2014) on int64, wrapping as uint64."""
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def stream(seed: int) -> int:
    """Start of a seed's stream; mixed once so that neighbouring seeds share nothing."""
    wrapped = (seed + (1 << 63)) % (1 << 64) - (1 << 63)
    return int(splitmix(torch.tensor([wrapped], dtype=torch.int64) + _GAMMA)[0])


def uniforms(streams: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """The `steps`-th uniform in [0, 1) of each stream.

    Args:
        streams: int64 [B], from `stream`.
        steps: int64 [B].

    Returns:
        float64 [B] with 53 random bits each.
    """
    bits = splitmix(streams + (steps + 1) * _GAMMA)
    return _shift(bits, 11).to(torch.float64) * 2.0**-53


def penalized(logits: torch.Tensor, seen: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Logits with each row's repetition penalty (CTRL, Keskar et al. 2019, section 4.1).

    Rows with penalty 1 keep their bits.

    Args:
        logits: [B, V].
        seen: bool [B, V], tokens of the prompt and the completion so far.
        penalty: [B].
    """
    penalty = penalty.to(logits.dtype)[:, None]
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def draw(
    logits: torch.Tensor,
    u: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor | None = None,
    top_p: torch.Tensor | None = None,
) -> torch.Tensor:
    """One token per row by inverting the distribution function at `u`.

    Temperature first, then top-k, then top-p of what is left (the order of transformers and
    vLLM). Tokens that tie with the last kept one are kept too.

    Args:
        logits: [B, V].
        u: float64 [B] in [0, 1).
        temperature: float64 [B]; 0 is greedy.
        top_k: int64 [B], 0 is off; None if off for all rows.
        top_p: float64 [B], 1 is off; None if off for all rows.

    Returns:
        int64 [B].
    """
    greedy = temperature == 0
    best = logits.argmax(-1)
    if bool(greedy.all()):
        return best
    scaled = logits.double() / torch.where(greedy, 1.0, temperature)[:, None]
    if top_k is not None:
        most = min(int(top_k.max()), logits.shape[-1])
        top = scaled.topk(most, dim=-1).values
        last = top.gather(-1, (top_k.clamp(1, most) - 1)[:, None])
        scaled = scaled.masked_fill((scaled < last) & (top_k > 0)[:, None], -torch.inf)
    probs = torch.softmax(scaled, dim=-1)
    if top_p is not None:
        probs = probs * (probs >= _nucleus_floor(probs, top_p)[:, None])
    cdf = probs.cumsum(-1)
    total = cdf[:, -1]
    # u * total may round up to total, where no token is left.
    target = torch.minimum(u * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(cdf, target[:, None], right=True)[:, 0]
    return torch.where(greedy, best, drawn)


def _nucleus_floor(probs: torch.Tensor, top_p: torch.Tensor, first: int = 512) -> torch.Tensor:
    """Probability of the last token of each row's nucleus, float64 [B]; 0 where top-p is off.

    Sorting whole vocabularies is slow; the largest `first` nearly always hold the nucleus.
    The running sum of sorted values is the same either way, so the path taken (which depends
    on the other rows) does not change a row's result.
    """
    off = top_p >= 1
    first = min(first, probs.shape[-1])
    ordered = probs.topk(first, dim=-1).values
    mass = ordered.cumsum(-1)
    if first < probs.shape[-1] and not bool(((mass[:, -1] >= top_p) | off).all()):
        ordered = probs.sort(dim=-1, descending=True).values
        mass = ordered.cumsum(-1)
    size = (mass < top_p[:, None]).sum(-1, keepdim=True).clamp(max=ordered.shape[-1] - 1)
    floor = ordered.gather(-1, size)[:, 0]
    return torch.where(off, 0.0, floor)

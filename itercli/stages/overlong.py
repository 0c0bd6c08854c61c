"""Prompts that leave no room for an answer: what becomes of them is decided before the first is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from itercli.records import Message, Prompt
from itercli.stages.base import StageContext, StageError

OnOverlong = Literal["fail", "drop", "truncate_left", "fit"]
ON_OVERLONG = (
    "What becomes of a prompt that exceeds the model's context with max_new_tokens. fail: the stage ends "
    "before it samples; drop: it is left out; truncate_left: its oldest text is cut, system messages stay; "
    "fit: fewer tokens are sampled, and a prompt that leaves room for none counts as not answered."
)
OVERLONG = "overlong.json"
ROOM, CUT = "room", "prompt_tokens_cut"  # in the meta of rows whose prompt was overlong: tokens
SHOWN = 5
Measure = Callable[[Sequence[Message]], tuple[int, int | None]]


@dataclass
class Fitted:
    """The prompts as they are sampled from.

    Attributes:
        messages: Prompt id -> its messages; dropped prompts are not in it.
        meta: Prompt id -> what was done, for the rows' `meta`.
        dropped: Prompt id -> its tokens.
    """

    messages: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    meta: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


def fitted(
    ctx: StageContext, prompts: Iterable[Prompt], rule: OnOverlong, budget: int, measure: Measure | None
) -> Fitted:
    """Apply a rule to the prompts that, with `budget` new tokens, exceed the context.

    Args:
        measure: (tokens of the prompt, context) of a conversation; None where only a server knows, which
            then says so itself.

    Raises:
        StageError: The rule is `fail`, or nothing of a prompt could be kept; names the prompts.
    """
    found = Fitted()
    over: dict[str, int] = {}
    limit = 0
    for prompt in prompts:
        found.messages[prompt.id] = tuple(prompt.messages)
        if measure is None:
            continue
        tokens, context = measure(prompt.messages)
        if context is None or tokens + budget <= context:
            continue
        over[prompt.id], limit = tokens, context
        if rule == "drop":
            found.dropped[prompt.id] = tokens
            del found.messages[prompt.id]
        elif rule == "truncate_left" and (kept := _cut(prompt.messages, context - budget, measure)):
            found.messages[prompt.id] = kept
            found.meta[prompt.id] = {CUT: tokens - measure(kept)[0]}
        elif rule == "fit":
            found.meta[prompt.id] = {ROOM: max(0, context - tokens)}
        else:
            rule = "fail"
    if not over:
        return found
    what = f"exceed the model's context of {limit} with max_new_tokens {budget}: {named(over)}"
    if rule == "fail":
        raise StageError(
            f"{ctx.name}: {len(over)} prompts {what}. Lower max_new_tokens, take other prompts, or "
            f"choose with `on_overlong`: drop, truncate_left or fit"
        )
    none = sum(meta.get(ROOM) == 0 for meta in found.meta.values())
    fit = f"given what room there is ({none} have none and count as not answered)"
    done = {"drop": "left out", "truncate_left": "cut from the left", "fit": fit}[rule]
    ctx.event("note", text=f"{len(over)} prompts {done}, as they {what}")
    if found.dropped:
        ctx.finish_file(OVERLONG, [{"prompt_id": i, "tokens": n} for i, n in found.dropped.items()])
    if not found.messages:
        raise StageError(f"{ctx.name}: no prompt is left, as they {what}")
    return found


def _cut(messages: Sequence[Message], room: int, measure: Measure) -> tuple[Message, ...] | None:
    """As much of the end as fits; None if even an empty last message does not."""
    most = sum(len(m.content) for m in messages if m.role != "system")
    if measure(_without(messages, most))[0] > room:
        return None
    low, high = 0, most  # characters to leave out: too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if measure(_without(messages, middle))[0] > room else (low, middle)
    return _without(messages, high)


def _without(messages: Sequence[Message], count: int) -> tuple[Message, ...]:
    """The conversation without its first characters; emptied turns go, but for the last and the system's."""
    kept = []
    for n, message in enumerate(messages):
        if message.role == "system":
            kept.append(message)
            continue
        left = message.content[count:]
        count = max(0, count - len(message.content))
        if left or n == len(messages) - 1:
            kept.append(message.model_copy(update={"content": left}))
    return tuple(kept)


def named(over: dict[str, int]) -> str:
    """The first prompts of some, with their tokens."""
    named = [f"{i!r} ({n} tokens)" for i, n in list(over.items())[:SHOWN]]
    return ", ".join([*named, f"and {len(over) - SHOWN} more"] if len(over) > SHOWN else named)

"""Which pairs to trust: drawing by uncertainty, baselines of the same size, and the mix.

Source: UPO (AAAI-25) and its released code. Of the pairs that the estimator does not vote
against, sure (*easy*) and unsure (*hard*) ones are drawn; the mix has all easy ones and a
share each of the hard ones, of the *margin* pairs (the best against the worst answer of a
prompt) and of the *labelled* pairs; then one pair stays for each prompt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from itercli.preference.uncertainty import draw, easy_weights, hard_weights
from itercli.records import PreferencePair

Selection = Literal["uncertainty", "random", "margin", "cb_rr", "none"]
BY_REWARD: tuple[Selection, ...] = ("margin", "cb_rr")
# A pair that no estimator saw counts as sure as any other of its kind.
UNSEEN = 0.5


class Mixing(BaseModel):
    """Options of a selection; shares are fractions of the pairs that they are taken from."""

    disagreement: bool = Field(
        True, description="Drop a pair if most passes of the estimator prefer its rejected answer."
    )
    easy: float = Field(0.5, ge=0, le=1, description="Share of the agreed pairs drawn as easy ones.")
    hard: float = Field(0.5, ge=0, le=1, description="Share of the agreed pairs drawn as hard ones.")
    hard_share: float = Field(0.2, ge=0, le=1, description="Share of the drawn hard pairs in the mix.")
    margin_share: float = Field(0.3, ge=0, le=1, description="Share of the margin pairs in the mix.")
    labelled_share: float = Field(0.4, ge=0, le=1, description="Share of the labelled pairs in the mix.")
    mu: float = Field(1.0, gt=0, description="Exponent of 1 - BALD in the weights of easy pairs.")
    one_per_prompt: bool = Field(True, description="Keep one pair of each prompt, by chance.")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a pair.

    Attributes:
        kept: Whether it is in the mix.
        reason: As what it was taken ("easy", "hard", "margin", "labelled", a baseline's name),
            or why not ("disagreement", "not drawn", "hard, not in the mix", "same prompt").
    """

    kept: bool
    reason: str


NOT_DRAWN = Verdict(False, "not drawn")
SAME_PROMPT = Verdict(False, "same prompt")
DISAGREEMENT = Verdict(False, "disagreement")
NOT_MIXED = Verdict(False, "hard, not in the mix")


@dataclass(frozen=True)
class Pool:
    """The pairs to select from; positions point into `pairs`.

    Attributes:
        own: What the loop made, to be drawn from.
        margins: Best against worst answer, at most one for each prompt; may be among `own`.
        labelled: Pairs with given labels.
    """

    pairs: Sequence[PreferencePair]
    own: Sequence[int]
    margins: Sequence[int] = ()
    labelled: Sequence[int] = ()


def widest(pairs: Sequence[PreferencePair], among: Iterable[int]) -> list[int]:
    """The pair with the largest margin of each prompt; the first one of equal ones."""
    best: dict[str, int] = {}
    for i in among:
        at = best.setdefault(pairs[i].prompt_id, i)
        if _margin(pairs[i]) > _margin(pairs[at]):
            best[pairs[i].prompt_id] = i
    return list(best.values())


def select(pool: Pool, selection: Selection, mixing: Mixing, seed: int) -> list[Verdict]:
    """Say of every pair whether it is trained on.

    ``uncertainty`` is the method. ``random``, ``margin`` (largest first) and ``cb_rr`` (the
    best answer against any of the rest) take as many pairs of the loop as it would, beside
    the same labelled ones, and don't look at the estimator; ``none`` takes all there are. With
    several pairs for each prompt ``cb_rr`` may have fewer to take.

    Returns:
        One verdict for each of `pool.pairs`.
    """
    rng = random.Random(seed)
    labelled = [(i, "labelled") for i in _sample(pool.labelled, mixing.labelled_share, rng)]
    verdicts = _by_uncertainty(pool, labelled, mixing, rng)
    if selection == "uncertainty":
        return verdicts
    if selection == "none":
        entries = [*labelled, *((i, selection) for i in pool.own)]
        rng.shuffle(entries)
        return _mixed(pool, entries, mixing, {})
    given = [(i, "labelled") for i in pool.labelled if verdicts[i].kept]
    size = sum(v.kept for v in verdicts)
    entries = [*given, *((i, selection) for i in _order(pool, selection, rng))]
    return _mixed(pool, entries, mixing, dict.fromkeys((i for i, _ in labelled), SAME_PROMPT), size)


def _by_uncertainty(
    pool: Pool, labelled: Sequence[tuple[int, str]], mixing: Mixing, rng: random.Random
) -> list[Verdict]:
    pairs = pool.pairs
    verdicts = {
        i: DISAGREEMENT for i in {*pool.own, *pool.margins} if mixing.disagreement and _outvoted(pairs[i])
    }
    agreed = [i for i in pool.own if i not in verdicts]
    balds = [UNSEEN if (b := pairs[i].bald) is None else b for i in agreed]
    easy = [agreed[n] for n in draw(easy_weights(balds, mixing.mu), share(mixing.easy, agreed), rng)]
    hard = [agreed[n] for n in draw(hard_weights(balds), share(mixing.hard, agreed), rng)]
    margins = [i for i in pool.margins if i not in verdicts]
    entries = [
        *labelled,
        *((i, "easy") for i in easy),
        *((i, "hard") for i in _sample(hard, mixing.hard_share, rng)),
        *((i, "margin") for i in _sample(margins, mixing.margin_share, rng)),
    ]
    rng.shuffle(entries)
    return _mixed(pool, entries, mixing, dict.fromkeys(hard, NOT_MIXED) | verdicts)


def _order(pool: Pool, selection: Selection, rng: random.Random) -> list[int]:
    """The pairs that a baseline would take, first choice first."""
    pairs = pool.pairs
    if selection == "margin":
        return sorted(dict.fromkeys([*pool.own, *pool.margins]), key=lambda i: -_margin(pairs[i]))
    order = list(pool.own)
    if selection == "cb_rr":
        best: dict[str, float] = {}
        for i in order:
            best[pairs[i].prompt_id] = max(best.get(pairs[i].prompt_id, -math.inf), _reward(pairs[i]))
        order = [i for i in order if _reward(pairs[i]) == best[pairs[i].prompt_id]]
    rng.shuffle(order)
    return order


def _mixed(
    pool: Pool,
    entries: Iterable[tuple[int, str]],
    mixing: Mixing,
    verdicts: dict[int, Verdict],
    size: int | None = None,
) -> list[Verdict]:
    """Take entries in order up to `size`; the first one of a prompt stays if only one may."""
    verdicts = dict(verdicts)
    taken: set[int] = set()
    prompts: set[str] = set()
    for i, kind in entries:
        prompt = pool.pairs[i].prompt_id
        if i in taken or len(taken) == size:
            continue
        if mixing.one_per_prompt and prompt in prompts:
            verdicts[i] = SAME_PROMPT
            continue
        verdicts[i] = Verdict(True, kind)
        taken.add(i)
        prompts.add(prompt)
    return [verdicts.get(i, NOT_DRAWN) for i in range(len(pool.pairs))]


def share(fraction: float, items: Sequence[object]) -> int:
    """How many items a fraction stands for, to the nearest; a half counts up."""
    return int(fraction * len(items) + 0.5)


def _sample(items: Sequence[int], fraction: float, rng: random.Random) -> list[int]:
    return rng.sample(items, share(fraction, items))


def _margin(pair: PreferencePair) -> float:
    return pair.margin if pair.margin is not None else 0.0


def _reward(pair: PreferencePair) -> float:
    return pair.rewards[0] if pair.rewards is not None else 0.0


def _outvoted(pair: PreferencePair) -> bool:
    return pair.vote is not None and pair.vote < 0.5

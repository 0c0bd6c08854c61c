"""Pairing rules: which of a prompt's rewarded answers are compared with which.

Sources: UPO (AAAI-25) for the half rule; RLHF Workflow (arXiv 2405.07863) for best against
worst, second and random, and for the length penalty.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Rule = Literal["best_worst", "best_random", "best_second", "all_ordered", "top_half_vs_bottom_half"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer with its reward.

    Attributes:
        reward: What pairs are ordered by, any length penalty included.
        score: The reward before the penalty.
        source: Who wrote it: "reference" or a policy version.
    """

    text: str
    reward: float
    score: float
    source: str


def ranked(answers: Iterable[tuple[str, float, str]], length_penalty: float = 0.0) -> list[Candidate]:
    """Distinct answers, best first; equal rewards stay in the order given.

    A text that comes twice counts once, the first time. What has no finite score is left out.

    Args:
        answers: (text, score, source) of each.
        length_penalty: Taken off the reward for each character.
    """
    found: dict[str, Candidate] = {}
    for text, score, source in answers:
        if math.isfinite(score):
            found.setdefault(text, Candidate(text, score - length_penalty * len(text), score, source))
    return sorted(found.values(), key=lambda c: -c.reward)


def places(rule: Rule, count: int, rng: random.Random) -> list[tuple[int, int]]:
    """Which ranks are paired, (better, worse) with 0 the best; ties are not looked at.

    Args:
        count: Answers in all; fewer than two give no pair.
    """
    if count < 2:
        return []
    if rule == "best_worst":
        return [(0, count - 1)]
    if rule == "best_random":
        return [(0, rng.randrange(1, count))]
    if rule == "best_second":
        return [(0, 1)]
    if rule == "all_ordered":
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    # The middle one of an odd number is in neither half.
    half = count // 2
    return [(i, j) for i in range(half) for j in range(count - half, count)]


def paired(
    rule: Rule, candidates: Sequence[Candidate], rng: random.Random, *, min_margin: float = 0.0
) -> tuple[list[tuple[Candidate, Candidate]], dict[str, int]]:
    """The pairs of one prompt, (chosen, rejected), and how many were dropped for which reason.

    Args:
        candidates: As `ranked` gives them.
        min_margin: Smallest difference of rewards; equal rewards are dropped in any case.
    """
    pairs = []
    dropped = {"tie": 0, "margin": 0}
    for i, j in places(rule, len(candidates), rng):
        margin = candidates[i].reward - candidates[j].reward
        if margin <= 0:
            dropped["tie"] += 1
        elif margin < min_margin:
            dropped["margin"] += 1
        else:
            pairs.append((candidates[i], candidates[j]))
    return pairs, dropped

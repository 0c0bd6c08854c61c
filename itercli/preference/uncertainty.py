"""How far an estimator's dropout passes can be trusted, and what follows for sampling and loss.

A *pass* is one forward pass with dropout on: the probabilities that the chosen and that the
rejected answer is better. All information is in nats. Source: UPO (AAAI-25), sections on
uncertainty estimation and on the loss; where its printed formulas contradict its text, the
function says so.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal

LN2 = math.log(2)
# 1 / (1 + mu (1 - B)) is below 0.5 for every B up to ln 2 only if mu is above this.
MIN_RECIP_MU = 1 / (1 - LN2)
# Digits that are kept of a difference of entropies: what lies below is rounding, and passes
# that are identical shall have none.
DIGITS = 12

AlphaMode = Literal["none", "bounded", "recip", "paper"]
PAPER_REVERSES = (
    "alpha: paper takes alpha = 1/(P + 1) with P that sum to 1, so every alpha is at least 0.5 and the loss "
    "prefers the rejected answers; it is here for comparison only. Set alpha=bounded to learn from the labels"
)

Passes = Sequence[Sequence[float]]


def entropy(probabilities: Sequence[float]) -> float:
    """Shannon entropy of a distribution in nats."""
    return -math.fsum(p * math.log(p) for p in probabilities if p > 0)


def mean_probability(passes: Passes) -> float:
    """Probability that the chosen answer is better, averaged over passes.

    Args:
        passes: Shape [passes, 2].

    Raises:
        ValueError: No passes.
    """
    if not passes:
        raise ValueError("no passes")
    return math.fsum(p[0] for p in passes) / len(passes)


def bald(passes: Passes) -> float:
    """Mutual information between label and dropout mask: entropy of the mean less mean entropy.

    0 where all passes agree, however unsure each is; at most ln 2.

    Args:
        passes: Probabilities of (chosen, rejected) in each pass, shape [passes, 2].

    Returns:
        Nats, in [0, ln 2].

    Raises:
        ValueError: No passes.
    """
    mean = mean_probability(passes)
    gain = entropy((mean, 1 - mean)) - math.fsum(entropy((p[0], 1 - p[0])) for p in passes) / len(passes)
    return min(max(round(gain, DIGITS), 0.0), LN2)


def vote(passes: Passes) -> float:
    """Share of passes in which the chosen answer wins; an even pass counts half.

    Raises:
        ValueError: No passes.
    """
    if not passes:
        raise ValueError("no passes")
    return math.fsum((p[0] > p[1]) + 0.5 * (p[0] == p[1]) for p in passes) / len(passes)


def easy_weights(balds: Sequence[float], mu: float = 1.0) -> list[float]:
    """Chances of drawing each pair where sure ones are wanted, (1 - B)^mu normalised.

    The paper prints mu as a factor, where it would cancel; as an exponent it does what the
    text says of it.
    """
    return _normalised([(1 - b) ** mu for b in balds])


def hard_weights(balds: Sequence[float]) -> list[float]:
    """Chances of drawing each pair where unsure ones are wanted, B normalised; all 0 if all B are."""
    return _normalised(balds)


def draw(weights: Sequence[float], count: int, rng: random.Random) -> list[int]:
    """Positions drawn one after the other without replacement; weight 0 is never drawn.

    Source: Efraimidis and Spirakis 2006: the largest u^(1/w), u uniform.
    """
    # -log u is exponential, and 1 - random() is never 0.
    keys = [(-math.log(1 - rng.random()) / w, i) for i, w in enumerate(weights) if w > 0]
    return [i for _, i in sorted(keys)[:count]]


def alphas(
    balds: Sequence[float], mode: AlphaMode, *, alpha_max: float = 0.3, mu: float = 10.0
) -> list[float]:
    """Probability that each label is wrong, as the loss takes it: (1 - a) l(z) + a l(-z).

    Labels are learnt the right way round only where alpha is below 0.5.

    Args:
        balds: Of the pairs that are trained on together, in nats.
        mode: ``none``: 0. ``bounded``: alpha_max B / ln 2. ``recip``: 1 / (1 + mu (1 - B)).
            ``paper``: 1 / (P + 1) with P the share of (1 - B); at least 0.5, so it reverses
            every label (`PAPER_REVERSES`).
        alpha_max: Alpha of a pair with B = ln 2, below 0.5.
        mu: How fast ``recip`` falls with certainty; above `MIN_RECIP_MU`.

    Raises:
        ValueError: With this `alpha_max` or `mu` an alpha could reach 0.5.
    """
    if not 0 <= alpha_max < 0.5:
        raise ValueError(f"alpha_max {alpha_max} is not in [0, 0.5); from 0.5 on labels are reversed")
    if mode == "none":
        return [0.0] * len(balds)
    if mode == "bounded":
        return [alpha_max * b / LN2 for b in balds]
    if mode == "recip":
        if not mu > MIN_RECIP_MU:
            raise ValueError(f"mu {mu} is not above {MIN_RECIP_MU:.2f}; labels of unsure pairs are reversed")
        return [1 / (1 + mu * (1 - b)) for b in balds]
    return [1 / (p + 1) for p in easy_weights(balds)]


def _normalised(values: Sequence[float]) -> list[float]:
    total = math.fsum(values)
    return [v / total for v in values] if total > 0 else [0.0] * len(values)

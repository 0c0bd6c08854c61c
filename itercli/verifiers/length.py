"""Length limits as numbers, and how well a text keeps one.

A limit is read once, from the field of a data file that states it, and from then on is a
structure in ``Prompt.meta["length"]``: the wording of a prompt may contradict it.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["about", "range", "above", "below"]


class LengthLimit(BaseModel):
    """How long a text is to be.

    Attributes:
        kind: "about", "above" or "below" `n`, or in the "range" from `low` to `high`.
        n: Words (characters in Chinese; see `words.longgen_words`).
        low: Lower end of a range in words.
        high: Upper end of a range in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    n: int | None = Field(None, ge=1)
    low: int | None = Field(None, ge=1)
    high: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> LengthLimit:
        if self.kind == "range":
            if self.n is not None or self.low is None or self.high is None or self.low > self.high:
                raise ValueError("a range needs low <= high, and no n")
        elif self.n is None or self.low is not None or self.high is not None:
            raise ValueError(f"{self.kind!r} needs n, and neither low nor high")
        return self

    def interval(self) -> tuple[float, float]:
        """Least and largest number of words with the full LonGen score.

        Source: QwenLM/Self-Lengthen, eval/length_following_eval.py.
        """
        if self.low is not None and self.high is not None:
            return self.low, self.high
        n = self.n or 0
        return {"about": (0.8 * n, 1.2 * n), "above": (n, 1.5 * n), "below": (0.5 * n, n)}[self.kind]


def parse_longgen(constraint: str, kind: str) -> LengthLimit:
    """The limit that a LonGen row states in its fields `constraint` and `type`.

    Raises:
        ValueError: Unknown type, or the phrase does not hold the numbers it needs.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"type {kind!r} is not one of {', '.join(get_args(Kind))}")
    numbers = [int(digits) for digits in re.findall(r"\d+", constraint)]
    if len(numbers) != (2 if kind == "range" else 1):
        wanted = "two numbers" if kind == "range" else "one number"
        raise ValueError(f"constraint {constraint!r} of type {kind!r} must hold {wanted} in digits")
    if kind == "range":
        return LengthLimit.model_validate({"kind": kind, "low": numbers[0], "high": numbers[1]})
    return LengthLimit.model_validate({"kind": kind, "n": numbers[0]})


def longgen_score(words: float, limit: LengthLimit) -> float:
    """LonGen's length score, 0 to 1: full inside the interval, 0 at half and at 1.5 times its ends."""
    low, high = limit.interval()
    if words < low:
        return max(0.0, 2 * words / low - 1)
    if words > high:
        return max(0.0, 3 - 2 * words / high)
    return 1.0


def longbench_score(required: float, words: float) -> float:
    """LongBench-Write's S_l, 0 to 100: full at the required length, 0 at a third and at four times it.

    Args:
        required: Required words, above 0.
        words: Words of the text, counted by `words.longbench_words`; none score 0.

    Raises:
        ValueError: `required` is not above 0.
    """
    if required <= 0:
        raise ValueError(f"the required length must be above 0, not {required}")
    if words <= 0:
        return 0.0
    if words > required:
        return 100 * max(0.0, 1 - (words / required - 1) / 3)
    return 100 * max(0.0, 1 - (required / words - 1) / 2)

"""Rubrics: what a judge rates, on which scale, and its answer read defensively.

The dimensions of `longgen` are those of Self-Lengthen's LonGen benchmark, those of
`longbench_write` LongWriter's (arXiv 2408.07055); what is said about each is our own wording.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ANALYSIS = "analysis"
RESERVED = frozenset({ANALYSIS, "mean", "tries", "judge"})  # other keys of an answer or of a row's `meta`
Dimension = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Rubric(BaseModel):
    """Dimensions that a judge rates with integers.

    Attributes:
        dimensions: Name -> what it means, told to the judge.
        low: Worst rating.
        high: Best rating.
        instructions: Anything else that the judge should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimensions: dict[Dimension, str] = Field(min_length=1)
    low: int = 1
    high: int = 10
    instructions: str = ""

    @model_validator(mode="after")
    def _sensible(self) -> Rubric:
        if self.low >= self.high:
            raise ValueError("`low` below `high`")
        if taken := RESERVED & self.dimensions.keys():
            raise ValueError(f"other names than {', '.join(sorted(taken))}")
        return self

    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of an answer: the analysis comes first, so that the ratings follow from it."""
        rating = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return answer_schema(dict.fromkeys(self.dimensions, rating))

    def ratings(self, answer: Mapping[str, Any]) -> dict[str, int]:
        """The ratings of an answer.

        Raises:
            Unreadable: One is missing, no integer, or outside the scale.
        """
        found = {}
        for name in self.dimensions:
            value = answer.get(name)
            if value is None:
                raise Unreadable("missing", f"{name!r} is missing")
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
                raise Unreadable("not an integer", f"{name!r} is not an integer")
            if not self.low <= value <= self.high:
                raise Unreadable("outside the range", f"{name!r} is not in {self.low} to {self.high}")
            found[name] = int(value)
        return found

    def percent(self, ratings: Mapping[str, int]) -> float:
        """Mean rating on a scale from 0 to 100; on 1 to 5 that is LongWriter's S_q, (mean - 1) * 25."""
        mean = sum(ratings.values()) / len(ratings)
        return 100 * (mean - self.low) / (self.high - self.low)


class Unreadable(ValueError):
    """An answer of a judge that can't be used.

    Attributes:
        reason: Its class, for counting.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def answer_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of an object of the analysis and these properties, nothing else."""
    return {
        "type": "object",
        "properties": {ANALYSIS: {"type": "string"}, **properties},
        "required": [ANALYSIS, *properties],
        "additionalProperties": False,
    }


def read_answer(text: str, required: str) -> dict[str, Any]:
    """The JSON object in a judge's answer; code fences and text around it don't matter.

    Args:
        required: A key that the object must have; other objects are quotations.

    Raises:
        Unreadable: There is none, or there are several that differ: which one is the judge's
            own and which a quotation from the text that it judged can't be told.
    """
    found = [answer for answer in _objects(text) if required in answer]
    if not found:
        raise Unreadable("not JSON", f"there is no JSON object with {required!r} in it")
    if any(answer != found[0] for answer in found):
        raise Unreadable("several answers", "there are several JSON objects that differ")
    return found[0]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (
            ValueError,
            RecursionError,
        ):  # a brace in prose, an unfinished object, a number of 5000 digits
            end = at + 1
        else:
            yield value
        at = text.find("{", end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is given twice")
    return made


LONGGEN = Rubric(
    dimensions={
        "relevance": "The text does what the instruction asks for, all of it, and stays with it.",
        "coherence": "Its parts follow from each other; the order helps the reader.",
        "accuracy": "What it states as fact is right; nothing is made up where facts matter.",
        "consistency": "It does not contradict itself; style, names and numbers stay the same.",
        "clarity": "It is easy to understand; terms are explained, sentences are well built.",
        "creativity": "It has ideas, examples or expressions of its own, where the task leaves room.",
        "engagement": "A reader would want to go on reading.",
    },
    low=1,
    high=10,
)

LONGBENCH_WRITE = Rubric(
    dimensions={
        "relevance": "The text fits the instruction's topic, purpose and demands throughout.",
        "accuracy": "Facts, data and quotations are right, and nothing misleads.",
        "coherence": "The structure is sound, transitions are natural, nothing is repeated.",
        "clarity": "The wording is precise and easy to follow.",
        "breadth_depth": "It covers the topic broadly, and goes into it with information that matters.",
        "reading_experience": "It reads well: fluent, varied, with a fitting tone and layout.",
    },
    low=1,
    high=5,
)

RUBRICS = {"longgen": LONGGEN, "longbench_write": LONGBENCH_WRITE}


def _by_name(value: Any) -> Any:
    if isinstance(value, str):
        if value not in RUBRICS:
            raise ValueError(", ".join([*RUBRICS, "a mapping {dimensions: {NAME: MEANING}; low; high}"]))
        return RUBRICS[value]
    return value


RubricField = Annotated[Rubric, BeforeValidator(_by_name)]

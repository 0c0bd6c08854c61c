"""Scorer `sentiment`: how positive a text is, by VADER's word list and rules.

A reward that is known for every text, costs nothing and can't be talked into anything but
the words it counts: the task on which a preference loop can be checked against the truth.

Source: Hutto and Gilbert (2014), "VADER: a parsimonious rule-based model for sentiment
analysis of social media text"; package vaderSentiment.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from itercli.records import Prompt, Score, Trajectory
from itercli.registry import register
from itercli.verifiers.base import Scorer


@register("scorer", "sentiment")
class Sentiment(Scorer):
    """VADER's compound score of the completion, -1 (negative) to 1 (positive).

    Attributes:
        passed_from: Scores from here on count as passed.
    """

    MEASURES: ClassVar[tuple[str, ...]] = ("sentiment", "words", "distinct_words")

    passed_from: float = Field(
        0.05, ge=-1, le=1, description="From which score on a text counts as positive."
    )

    def open(self) -> SentimentJudge:
        return SentimentJudge(self)

    def fingerprint(self) -> dict[str, str]:
        from importlib.metadata import version

        return {"vaderSentiment": version("vaderSentiment")}


class SentimentJudge:
    """An opened `sentiment`; reading its word list is all that it does at the start."""

    def __init__(self, options: Sentiment) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self.options = options
        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score:
        text = trajectory.completion.strip()
        value = float(self._analyzer.polarity_scores(text)["compound"])
        passed = value >= self.options.passed_from
        words = text.lower().split()
        return Score(
            prompt_id=trajectory.prompt_id,
            index=trajectory.index,
            completion=trajectory.completion,
            policy=trajectory.policy,
            value=value,
            passed=passed,
            outcome="positive" if passed else "other",
            answer=text,
            meta={
                "sentiment": value,
                "words": len(words),
                # Of a text that repeats one happy word, this falls.
                "distinct_words": len(set(words)) / len(words) if words else None,
            },
        )

    def close(self) -> None:
        """Nothing is held."""

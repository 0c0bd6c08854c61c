"""VADER as a scorer."""

from __future__ import annotations

import pytest

from itercli.records import Message, Prompt, Score, Trajectory
from itercli.verifiers.sentiment import Sentiment


def scored(text: str, **options: float) -> Score:
    prompt = Prompt(id="p", messages=[Message(role="user", content="Continue.")])
    drawn = Trajectory(
        prompt_id="p", index=0, seed=0, completion=text, finish="stop", tokens=3, policy="policy@0"
    )
    judge = Sentiment.model_validate(options).open()
    try:
        return judge.score(prompt, drawn)
    finally:
        judge.close()


def test_the_order_is_that_of_the_feeling() -> None:
    sad, plain, happy = (
        scored(t).value
        for t in (
            "She cried; it was a horrible loss.",
            "She took the bus.",
            "She laughed; it was a wonderful day!",
        )
    )
    assert -1 <= sad < -0.3 < plain == 0.0 < 0.3 < happy <= 1


def test_what_vader_is_known_to_say() -> None:
    # From the examples of the authors' read-me.
    assert scored("VADER is smart, handsome, and funny.").value == pytest.approx(0.8316)
    assert scored("VADER is not smart, handsome, nor funny.").value == pytest.approx(-0.7424)


def test_passed_and_measures() -> None:
    row = scored("good good good bad")
    assert row.meta == {"sentiment": row.value, "words": 4, "distinct_words": 0.5}
    assert row.passed is True
    assert scored("good", passed_from=0.9).passed is False
    assert scored("").meta["distinct_words"] is None
    assert "vaderSentiment" in Sentiment().fingerprint()

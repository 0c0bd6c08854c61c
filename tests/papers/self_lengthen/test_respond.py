"""First answers, drawn again until one passes."""

from __future__ import annotations

from typing import Any

import pytest

from itercli.papers.self_lengthen.respond import Respond
from itercli.records import Message
from itercli.stages.base import StageError
from tests.papers.self_lengthen.bench import Bench, Fake, prompt, script, words


def respond(**options: Any) -> Respond:
    base = {"role": "generator", "prompts": "propose", "accept": "en", "n": 1, "sampler": Fake()}
    return Respond.model_validate(base | options)


def test_answers_are_drawn_again_until_one_passes(bench: Bench) -> None:
    twice = words(10)[:-1]
    answers = script(
        "no end", ("Good, but cut.", "length"), f"{twice} {twice} more.", "A revised version.", "Good.",
        "Good at once.",
    )  # fmt: skip
    system = Message(role="system", content="Be kind.")
    asked = prompt(0, "Write.", system)
    rows = bench.run(respond(n=2), answers, prompts=[asked])
    assert [(r.index, r.completion, r.meta["tries"]) for r in rows] == [
        (0, "Good.", 5),
        (1, "Good at once.", 1),
    ]
    assert bench.counts == {
        "rejected: closing": 1, "rejected: not_finished": 1, "rejected: repeated_ngram": 1,
        "rejected: meta_words": 1, "calls: respond": 6, "tokens": 18,
    }  # fmt: skip
    assert all(r.messages == tuple(asked.messages) for r in bench.asked)
    assert rows[0].seed != rows[1].seed


def test_answers_that_never_pass_are_given_up(bench: Bench) -> None:
    answers = script("no", "no", "Good.", "no", "no")
    (row,) = bench.run(respond(tries=2), answers, prompts=[prompt(n) for n in range(3)])
    assert row.prompt_id == "p1"
    assert bench.counts["gave up: no answer passed"] == 2
    with pytest.raises(StageError, match=r"no answer passed the check.*'rejected: closing': 2"):
        bench.run(respond(tries=2), script("no", "no"), prompts=[prompt()])

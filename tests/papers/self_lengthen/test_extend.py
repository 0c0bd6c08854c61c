"""How texts are split, and the extension in micro-steps."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from itercli.papers.self_lengthen.extend import (
    Extend,
    extend_request,
    first_half,
    first_paragraphs,
    split_text,
)
from itercli.records import Message
from itercli.sampling.base import Request
from itercli.verifiers.words import longgen_words
from tests.papers.self_lengthen.bench import Answer, Bench, Fake, prompt, script, text_of, words

PIECES = {
    "en": ["One day. ", "Really? Yes!", "no end", "Dr. Who, 3.5 m.", "“Quoted.” he said", "  ", ""],
    "zh": ["今天下雨。", "真的？是的！", "没有句号", "他说：“好。”", "，", "A 4，B。", ""],
}


def mixed(language: str, rng: random.Random) -> str:
    """A text of sentences, lines and paragraphs in any mix, empty ones and odd breaks included."""
    breaks = rng.choice([["\n\n"], ["\n"], [""], ["\n\n", "\n", "", " ", "\n\n\n", "\r\n"]])
    pieces = (rng.choice(PIECES[language]) + rng.choice(breaks) for _ in range(rng.randrange(12)))
    return "".join(pieces)


def dense(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_splitting_loses_nothing(language: str) -> None:
    separators = set()
    for seed in range(1500):
        text = mixed(language, random.Random(seed))
        parts, separator = split_text(text)
        separators.add(separator)
        assert separator.join(parts) == text
        half = first_half(text)
        assert dense(half) == dense(separator.join(parts[: len(parts) // 2]))
        assert dense(text).startswith(dense(half))
        kept = first_paragraphs(text)
        count = text.count("\n\n") + 1
        assert text.startswith(kept)
        assert kept == "" if count == 1 else kept.count("\n\n") + 1 == 2 * count // 3
    assert separators == {"\n\n", "\n", ""}


@pytest.mark.parametrize(
    ("text", "parts", "separator", "half"),
    [
        ("a\n\nb\n\nc\n\nd\n\ne", ["a", "b", "c", "d", "e"], "\n\n", "a\n\nb"),
        ("a\nb\n\nc", ["a", "b", "", "c"], "\n", "a\n\nb"),  # two paragraphs: by lines
        ("a\nb\nc\nd", ["a", "b", "c", "d"], "\n", "a\n\nb"),
        ("a\nb", ["a", "b"], "\n", "a"),
        ("It is. Is it? Yes! So.", ["It is.", " Is it?", " Yes!", " So."], "", "It is. Is it?"),
        ("天亮了。鸟叫了！谁？", ["天亮了。", "鸟叫了！", "谁？"], "", "天亮了。"),
        ("one sentence only.", ["one sentence only."], "\n", ""),
        ("", [""], "\n", ""),
    ],
)
def test_what_counts_as_a_part(text: str, parts: list[str], separator: str, half: str) -> None:
    assert split_text(text) == (parts, separator)
    assert first_half(text) == half


@pytest.mark.parametrize(
    ("text", "kept"), [("a", ""), ("a\n\nb", "a"), ("a\n\nb\n\nc", "a\n\nb"), ("a\n\nb\n\nc\n\nd", "a\n\nb")]
)
def test_the_last_third_of_stage_a_goes(text: str, kept: str) -> None:
    assert first_paragraphs(text) == kept


def extend(**options: Any) -> Extend:
    base = {"role": "extender", "of": "drafts", "accept": "en", "n": 1, "tries": 1, "micro_steps": 1}
    return Extend.model_validate(base | {"sampler": Fake()} | options)


DRAFT = "\n\n".join(words(5) for _ in range(4))


def test_a_micro_step_asks_for_the_half_then_for_the_whole(bench: Bench) -> None:
    asked = prompt(0, "Write {it}.", Message(role="system", content="Be kind."))
    a = [words(6), words(7), words(8)]
    b = " and on, " + words(10)
    one = words(3)  # a single paragraph: nothing to open the second answer with
    (row,) = bench.run(extend(micro_steps=2), script("\n\n".join(a), b, one, "too short"),
                       of=[text_of(DRAFT)], prompts=[asked])  # fmt: skip
    opened = "\n\n".join(a[:2])
    first_a, first_b, second_a, second_b = bench.asked
    half = "\n\n".join(DRAFT.split("\n\n")[:2])
    assert first_a.messages == extend_request("en", asked, half)
    assert [m.role for m in first_a.messages] == ["system", "user"]
    assert "Write {it}." in first_a.messages[1].content
    assert not first_a.continue_final
    whole = extend_request("en", asked, DRAFT)
    assert first_b.messages == (*whole, Message(role="assistant", content=opened))
    assert first_b.continue_final
    # The next step works on what was taken.
    assert second_a.messages == extend_request("en", asked, first_half(opened + b))
    assert second_b.messages == extend_request("en", asked, opened + b)
    assert not second_b.continue_final

    assert row.completion == opened + b
    assert (row.policy, row.finish, row.tokens) == ("policy@1", "stop", 12)
    total = longgen_words(opened + b)
    assert row.meta == {
        "draft": DRAFT, "draft_index": 0, "draft_words": 20, "words": total, "ratio": round(total / 20, 3),
        "tries": 1,
        "steps": [
            {
                "half": half, "a": opened, "b": b, "words_before": 20, "words": total,
                "ratio": round(total / 20, 3), "failed": [], "taken": True,
            },
            {
                "half": first_half(opened + b), "a": "", "b": "too short", "words_before": total, "words": 2,
                "ratio": round(2 / total, 3), "failed": ["closing", "not_longer"], "taken": False,
            },
        ],
    }  # fmt: skip
    assert bench.counts == {
        "rejected: closing": 1, "rejected: not_longer": 1, "calls: extend.a": 2, "calls: extend.b": 2,
        "tokens": 12,
    }  # fmt: skip


@pytest.mark.parametrize(("longer", "taken"), [(11, False), (12, False), (13, True)])
def test_growth_must_be_above_the_ratio(bench: Bench, longer: int, taken: bool) -> None:
    draft, good = words(10), words(20)
    answers = script("one paragraph", words(longer), "one paragraph", good)
    (row,) = bench.run(extend(tries=2), answers, of=[text_of(draft)], prompts=[prompt()])
    if taken:
        assert (row.meta["tries"], row.meta["words"]) == (1, 13)
    else:
        assert (row.completion, row.meta["tries"]) == (good, 2)
        assert bench.counts["rejected: try: too little growth"] == 1
        # A new try begins with the draft, not with what the last one came to, and records its own steps.
        assert [s["words_before"] for s in row.meta["steps"]] == [10]
        assert bench.asked[3].messages == extend_request("en", prompt(), draft)


def test_small_steps_add_up(bench: Bench) -> None:
    answers = script(*(a for n in (11, 12, 13) for a in ("one paragraph", words(n))))
    (row,) = bench.run(extend(micro_steps=3), answers, of=[text_of(words(10))], prompts=[prompt()])
    assert [s["taken"] for s in row.meta["steps"]] == [True] * 3
    assert row.meta["ratio"] == 1.3


@pytest.mark.parametrize("finished", [True, False])
def test_cut_candidates(bench: Bench, finished: bool) -> None:
    answers = script(("one paragraph", "length"), (words(30), "length"))
    drafts = [text_of(words(10))]
    stage = extend(finished=finished)
    if finished:  # only how the second stage ended counts
        assert bench.run(stage, answers, of=drafts, prompts=[prompt()]) == []
        assert bench.counts["rejected: not_finished"] == 1
    else:
        assert bench.run(stage, answers, of=drafts, prompts=[prompt()])[0].meta["words"] == 30


def test_jobs_without_a_row_are_counted(bench: Bench) -> None:
    drafts = [text_of(words(10), 0, 0), text_of(words(10), 0, 1), text_of(words(10), 1, 0)]
    good = {(0, 1), (1, 0)}

    def answer(request: Request) -> Answer:
        job = request.key[0].partition("#")[0][1:], request.key[0].partition("#")[2].partition(".")[0]
        if request.key[1] % 2 == 0:
            return "one paragraph"
        return words(15) if tuple(map(int, job)) in good else "no."

    rows = bench.run(extend(n=2, tries=3), answer, of=drafts, prompts=[prompt(0), prompt(1)])
    assert [(r.prompt_id, r.index) for r in rows] == [("p0", 2), ("p0", 3), ("p1", 0), ("p1", 1)]
    assert [r.meta["draft_index"] for r in rows] == [1, 1, 0, 0]
    assert len({r.seed for r in rows}) == 4
    assert bench.counts["gave up: too little growth"] == 2
    assert bench.counts["rejected: try: too little growth"] == 6
    assert bench.counts["rejected: not_longer"] == 6
    assert bench.counts["calls: extend.a"] == bench.counts["calls: extend.b"] == 10


def test_recorded_steps_lead_from_the_draft_to_the_text(bench: Bench) -> None:
    rng = random.Random(3)

    def answer(request: Request) -> Answer:
        parts = [words(rng.randrange(1, 9)) for _ in range(rng.randrange(1, 6))]
        end = rng.choice([".", "", " the end of this response."])
        return rng.choice(["\n\n", "\n", " "]).join(parts) + end, rng.choice(
            ["stop", "stop", "stop", "length"]
        )

    drafts = [text_of(words(4) + "\n\n" + words(6), n) for n in range(30)]
    stage = extend(n=2, micro_steps=3, tries=2)
    rows = bench.run(stage, answer, of=drafts, prompts=[prompt(n) for n in range(30)])
    turned_down = 0
    for row in rows:
        text, count = row.meta["draft"], row.meta["draft_words"]
        assert (text, count) == (drafts[int(row.prompt_id[1:])].completion, 10)
        for step in row.meta["steps"]:
            assert (step["half"], step["words_before"]) == (first_half(text), count)
            candidate = step["a"] + step["b"]
            assert step["words"] == longgen_words(candidate)
            assert step["ratio"] == round(step["words"] / count, 3)
            assert step["taken"] == (not step["failed"])
            assert ("not_longer" in step["failed"]) == (step["words"] <= count)
            turned_down += not step["taken"]
            if step["taken"]:
                text, count = candidate, step["words"]
        assert (row.completion, row.meta["words"]) == (text, count)
        assert count > 1.2 * 10
        assert row.meta["ratio"] == round(count / 10, 3)
    assert len(rows) > 20
    assert turned_down > 10

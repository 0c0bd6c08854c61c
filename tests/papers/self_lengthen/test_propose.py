"""New instructions from two seeds, and which are kept."""

from __future__ import annotations

import re
from typing import Any

import pytest

from itercli.papers.self_lengthen.propose import Propose
from itercli.papers.self_lengthen.wording import Language
from itercli.records import ModelRef
from itercli.stages.base import StageError
from itercli.verifiers.words import longgen_words
from tests.papers.self_lengthen.bench import MODELS, Bench, Fake, prompt, script, words

JUDGED = {**MODELS, "judge": ModelRef(base="w", version="judge@0", digest="j")}
SEEDS = {
    "en": [prompt(n, f"Write about topic {n} in some depth.") for n in range(5)],
    "zh": [prompt(n, f"请写第{n}篇文章。") for n in range(5)],
}


def propose(**options: Any) -> Propose:
    base = {"role": "base", "seeds": "seeds", "n": 1, "tries": 1, "sampler": Fake()}
    return Propose.model_validate(base | options)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_two_seeds_are_shown_and_the_third_is_asked_for(bench: Bench, language: Language) -> None:
    new = {"en": "  Tell of a long walk home.\n", "zh": " 请写一篇关于回家的文章。"}[language]
    answers = script(*[new, {"en": "yes", "zh": "是"}[language]] * 8)
    stage = propose(n=8, language=language, stop=["\n\n"], suits=700, max_new_tokens=99)
    rows = bench.run(stage, answers, models=JUDGED, iteration=3, seeds=SEEDS[language])
    assert [r.id for r in rows] == [f"i3/0000{n}" for n in range(8)]
    assert {r.messages[0].content for r in rows} == {new.strip()}
    pairs = set()
    for row, invent, judge in zip(rows, bench.asked[::2], bench.asked[1::2], strict=True):
        shown = [p for p in SEEDS[language] if p.messages[0].content in invent.messages[-1].content]
        assert len(shown) == 2
        assert sorted(row.meta["seeds"]) == [p.id for p in shown]
        pairs.add(tuple(row.meta["seeds"]))
        opened = invent.messages[-1]
        assert opened.role == "assistant"
        assert re.search(r"^1.*\n\n2.*\n\n3.$", opened.content, re.DOTALL)
        assert invent.continue_final
        assert invent.params.stop[0] == "\n\n"
        assert invent.params.stop[1].startswith("\n4")
        assert (invent.policy, judge.policy) == ("policy@1", "judge@0")
        question, opened = judge.messages
        assert new.strip() in question.content
        assert "700" in question.content
        assert opened.role == "assistant"
        assert judge.continue_final
        assert (judge.params.max_new_tokens, judge.params.stop) == (4, ())
        assert (row.meta["language"], row.meta["tries"]) == (language, 1)
    assert len(pairs) > 3


@pytest.mark.parametrize(
    ("language", "answer", "kept"),
    [
        ("en", "yes", True), ("en", " Yes.", True), ("en", "\n**YES**", True), ("en", "yes, it", True),
        ("en", "no", False), ("en", "Yesterday", False), ("en", "Well, yes", False), ("en", "", False),
        ("zh", "是", True), ("zh", " 是。", True), ("zh", "否", False), ("zh", "不是", False),
    ],
)  # fmt: skip
def test_only_a_yes_keeps_an_instruction(bench: Bench, language: Language, answer: str, kept: bool) -> None:
    new = {"en": "Tell of a long walk home.", "zh": "请写一篇关于回家的文章。"}[language]
    stage = propose(language=language)
    if kept:
        assert len(bench.run(stage, script(new, answer), models=JUDGED, seeds=SEEDS[language])) == 1
    else:
        with pytest.raises(StageError, match=r"'rejected: not suitable': 1.*raise n or tries"):
            bench.run(stage, script(new, answer), models=JUDGED, seeds=SEEDS[language])


def test_without_a_judge_role_the_proposer_answers() -> None:
    links = {link.slot: link.role for link in propose().model_links()}
    assert links == {"policy": "base", "judge": "base"}
    assert {link.slot: link.role for link in propose(judge="critic").model_links()}["judge"] == "critic"


def test_instructions_have_bounds(bench: Bench) -> None:
    cases = {3: False, 4: True, 9: True, 10: False}
    answers = script(*map(words, cases), ("Cut before its end is", "length"))
    rows = bench.run(propose(n=5, words=(3, 10), suits=0), answers, models=JUDGED, seeds=SEEDS["en"])
    assert [longgen_words(r.messages[0].content) for r in rows] == [n for n, good in cases.items() if good]
    assert [r.id for r in rows] == ["i1/00001", "i1/00002"]
    assert bench.counts == {
        "rejected: too short or too long": 2, "rejected: cut by max_new_tokens": 1,
        "gave up: no instruction": 3, "calls: propose": 5, "tokens": 15,
    }  # fmt: skip


def test_other_tries_show_other_pairs(bench: Bench) -> None:
    answers = script(*["no"] * 9, "Tell of a long walk home.")
    (row,) = bench.run(propose(tries=10, suits=0), answers, models=JUDGED, seeds=SEEDS["en"])
    assert row.meta["tries"] == 10
    shown = [r.messages[-1].content for r in bench.asked]
    assert len(set(shown)) > 3
    bench.run(propose(tries=10, suits=0), script(*["no"] * 9, words(5)), models=JUDGED, seeds=SEEDS["en"])
    assert [r.messages[-1].content for r in bench.asked] == shown


@pytest.mark.parametrize(
    ("language", "new", "kept"),
    [
        # Against a seed, against each other without case, and two that only share some words.
        ("en", ["Write about topic 3 in some depth.", "Tell of “one” walk.", "tell OF “one” walk."], [1]),
        ("en", ["Tell of a “long” walk.", "Paint the “blue” sea at dawn."], [0, 1]),
        ("zh", ["请写第3篇文章。", "谈谈故乡的河流。", "谈谈故乡的河流！", "介绍围棋的历史。"], [1, 3]),
    ],
)
def test_duplicates_are_dropped_if_wanted(
    bench: Bench, language: Language, new: list[str], kept: list[int]
) -> None:
    def run(distinct: float) -> list[str]:
        stage = propose(n=len(new), suits=0, language=language, distinct=distinct)
        rows = bench.run(stage, script(*new), models=JUDGED, seeds=SEEDS[language])
        return [r.messages[0].content for r in rows]

    assert run(0.7) == [new[n] for n in kept]
    assert bench.counts.get("duplicates", 0) == len(new) - len(kept)
    assert run(1) == new


def test_one_seed_is_too_few(bench: Bench) -> None:
    with pytest.raises(StageError, match="two seed instructions are shown at a time, there is 1"):
        bench.run(propose(), models=JUDGED, seeds=SEEDS["en"][:1])

"""Self-Lengthen's loop: propose, respond, extend, selection by length, what is learnt from it."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.context import Context
from itercli.engine.rows import read_rows
from itercli.engine.store import ROWS, Store
from itercli.papers.self_lengthen.extend import (
    Extend,
    extend_request,
    first_half,
    first_paragraphs,
    split_text,
)
from itercli.papers.self_lengthen.length_bias import LengthBias, keep_probabilities
from itercli.papers.self_lengthen.pairs import ExtenderPairs, GeneratorPairs, Longest
from itercli.papers.self_lengthen.propose import Propose
from itercli.papers.self_lengthen.respond import Respond
from itercli.papers.self_lengthen.wording import Language
from itercli.records import Message, ModelRef, Prompt, RankedExample, Record, Trajectory
from itercli.sampling.base import Request, Sampled, SamplerSpec
from itercli.stages.base import Stage, StageError
from itercli.stages.selectors import Dropped, Selector
from itercli.verifiers.words import longgen_words

MODELS = {"policy": ModelRef(base="w", version="policy@1", digest="p")}
Answer = str | tuple[str, str]
"""A text, or a text and how it ended."""


class Fake(SamplerSpec):
    """Never built: the bench hands out its own sampler."""


@dataclass
class Scripted:
    """Answers one request after the other, so a job is over before the next begins."""

    answer: Callable[[Request], Answer]
    asked: list[Request] = field(default_factory=list)

    def load(self, *models: ModelRef) -> dict[str, Any]:
        return {}

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        for request in requests:
            assert request is not None
            self.asked.append(request)
            made = self.answer(request)
            text, finish = (made, "stop") if isinstance(made, str) else made
            yield Sampled(request.key, text, finish, 3)  # type: ignore[arg-type]

    def close(self) -> None: ...


def script(*answers: Answer) -> Callable[[Request], Answer]:
    left = iter(answers)
    return lambda request: next(left)


@dataclass
class Rows:
    content: Sequence[Record]
    label: str = "before/somewhere"

    def rows(self, record: type[Record]) -> Iterator[Record]:
        return iter(self.content)


class Bench:
    """Runs a stage in this process on a real store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = 0

    def run(
        self,
        stage: Stage,
        answer: Callable[[Request], Answer] | None = None,
        *,
        seed: int = 5,
        iteration: int = 1,
        models: Mapping[str, ModelRef] = MODELS,
        **inputs: Sequence[Record],
    ) -> list[Any]:
        self.runs += 1
        entry = Store(self.path).entry("rows", str(self.runs))
        entry.path.mkdir(parents=True)
        self.sampler = Scripted(answer or script())
        ctx = Context(
            name="iteration-01/stage", iteration=iteration, seed=seed, entry=entry,
            inputs={slot: [Rows(rows)] for slot, rows in inputs.items()},
            models=dict(models), shared={}, stop=threading.Event(), send=lambda message: None,
        )  # fmt: skip
        ctx.shared = lambda key, make: self.sampler  # type: ignore[assignment, return-value]
        try:
            stage.run(ctx)
        finally:
            ctx.close()
        self.counts = ctx.counts
        record = Prompt if stage.OUTPUT == "prompts" else Trajectory
        return list(read_rows(entry.path / ROWS, record))

    @property
    def asked(self) -> list[Request]:
        return self.sampler.asked


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def prompt(number: int = 0, text: str = "Write about tides.", *before: Message) -> Prompt:
    return Prompt(id=f"p{number}", messages=[*before, Message(role="user", content=text)])


def text_of(completion: str, number: int = 0, index: int = 0, **meta: Any) -> Trajectory:
    return Trajectory(
        prompt_id=f"p{number}", index=index, seed=1, completion=completion, finish="stop", tokens=2,
        policy="policy@1", meta=meta,
    )  # fmt: skip


_word = iter(range(10**9))


def words(count: int) -> str:
    """A sentence of words that never come again."""
    return " ".join(f"w{next(_word)}" for _ in range(count)) + "."


# -- splitting ----------------------------------------------------------------------------

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


# -- length bias --------------------------------------------------------------------------


def test_length_bias_keeps_three_fifths_and_never_the_shortest_fifth() -> None:
    n = 5000
    chances = keep_probabilities(range(n))
    assert 0.594 < sum(chances) / n < 0.5955
    assert chances == sorted(chances)
    assert chances.count(0) / n == pytest.approx(0.206, abs=5e-4)
    assert chances[n // 2] == 0.75
    assert chances[-1] == pytest.approx(1, abs=1e-9)


def test_length_bias_goes_by_rank_alone() -> None:
    rng = random.Random(0)
    for n in (1, 2, 3, 10, 57):
        lengths = rng.sample(range(10**6), n)
        by_length = dict(zip(sorted(lengths), keep_probabilities(range(n)), strict=True))
        assert keep_probabilities(lengths) == [by_length[length] for length in lengths]
        assert keep_probabilities([7] * n) == keep_probabilities(range(n))  # ties: in the order given


def test_length_bias_draws_by_seed(bench: Bench) -> None:
    rows = [text_of("x" * (n * 7919 % 2000 + 1), n) for n in range(2000)]
    kept = bench.run(LengthBias(of="respond"), of=rows)
    assert bench.counts == {"dropped": 2000 - len(kept)}
    assert 0.56 < len(kept) / 2000 < 0.63
    assert min(len(t.completion) for t in kept) > 400
    assert kept == [t for t in rows if t in kept]
    assert bench.run(LengthBias(of="respond"), of=rows) == kept
    other = bench.run(LengthBias(of="respond"), seed=6, of=rows)
    assert {t.prompt_id for t in other} != {t.prompt_id for t in kept}
    # A text's luck does not depend on where it stands.
    assert set(map(repr, bench.run(LengthBias(of="respond"), of=rows[::-1]))) == set(map(repr, kept))


def test_length_bias_keeps_the_longest_of_a_handful(bench: Bench) -> None:
    rows = [text_of("x" * n, n) for n in (3, 9, 5)]
    assert bench.run(LengthBias(of="respond"), of=rows[:1]) == rows[:1]
    assert bench.run(LengthBias(of="respond", at_least=0), of=rows[:1]) == []
    drawn = bench.run(LengthBias(of="respond", at_least=0), of=rows)
    two = bench.run(LengthBias(of="respond", at_least=2), of=rows)
    assert len(two) == max(2, len(drawn))
    assert rows[1] in two
    assert bench.run(LengthBias(of="respond"), of=[]) == []


# -- extend -------------------------------------------------------------------------------


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


# -- respond ------------------------------------------------------------------------------


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


# -- propose ------------------------------------------------------------------------------

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


# -- pairs --------------------------------------------------------------------------------


def examples(
    selector: Selector, groups: Sequence[tuple[Prompt, list[Trajectory]]], seed: int = 0
) -> list[Any]:
    return list(selector.select(groups, rng=random.Random(seed)))


def extended(completion: str, draft: str, number: int = 0, index: int = 0) -> Trajectory:
    steps = [{"half": "H", "a": "Stage A.", "b": "Stage B.", "taken": True}]
    return text_of(completion, number, index, draft=draft, steps=steps)


def test_both_roles_learn_the_final_text() -> None:
    asked = prompt(0, "Write.", Message(role="system", content="Be kind."))
    texts = [extended("Final one.", "Draft one.", 0, 0), extended("Final two.", "Draft two.", 0, 1)]
    groups = [(asked, texts), (prompt(1), [])]
    for selector in (GeneratorPairs(), ExtenderPairs(keep_lines=1)):
        made = examples(selector, groups)
        assert made[-1] == Dropped("p1", None, "no_extension")
        rows: list[RankedExample] = made[:-1]
        assert [(r.responses, r.target, r.prompt_id) for r in rows] == [
            (["Final one."], 0, "p0"), (["Final two."], 0, "p0")
        ]  # fmt: skip
        assert not any("Stage" in r.model_dump_json() for r in rows)
        assert {tuple(r.sources) for r in rows} == {("policy@1",)}
    assert [r.messages for r in examples(GeneratorPairs(), groups)[:2]] == [asked.messages] * 2
    # Word for word what the extender is asked when it draws.
    assert [r.messages for r in examples(ExtenderPairs(keep_lines=1), groups)[:2]] == [
        list(extend_request("en", asked, "Draft one.")), list(extend_request("en", asked, "Draft two."))
    ]  # fmt: skip


def thinned(draft: str, language: Language, seed: int = 0, **options: Any) -> str:
    """The draft as it stands in the extender's request."""
    (row,) = examples(
        ExtenderPairs(language=language, **options), [(prompt(), [extended("F.", draft)])], seed
    )
    (frame,) = extend_request(language, prompt(), "|")
    before, after = frame.content.split("|")
    asked: str = row.messages[0].content
    assert asked.startswith(before)
    assert asked.endswith(after)
    return asked[len(before) : len(asked) - len(after)]


@pytest.mark.parametrize(("language", "joint"), [("en", "\n"), ("zh", "\n\n")])
def test_four_of_five_lines_stay(language: Language, joint: str) -> None:
    lines = [f"line {n}" for n in range(4000)]
    kept = thinned("\n".join(lines), language).split(joint)
    assert 0.78 < len(kept) / 4000 < 0.82
    assert kept == [line for line in lines if line in set(kept)]
    assert thinned("\n".join(lines), language) == joint.join(kept)
    assert thinned("\n".join(lines), language, seed=1) != joint.join(kept)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("draft", ["Only line.", "One.\n\n\n\nTwo."])
def test_no_draft_is_thinned_to_nothing(language: Language, draft: str) -> None:
    seen = {thinned(draft, language, seed, keep_lines=0.2) for seed in range(200)}
    assert all(text.strip() for text in seen)
    assert draft in seen


def test_longest_distinct_answers() -> None:
    texts = [text_of(t, 0, n) for n, t in enumerate(["bb", "cccc", "aaaa", "cccc", "d" * 9, "b"])]
    groups = [(prompt(), texts), (prompt(1), [])]
    made = examples(Longest(n=3), groups)
    assert [r.responses[0] for r in made[:-1]] == ["d" * 9, "cccc", "aaaa"]
    assert made[-1] == Dropped("p1", None, "no_answer")
    assert [r.responses[0] for r in examples(Longest(), groups)[:-1]] == ["d" * 9]
    assert len(examples(Longest(n=9), groups)) == 5 + 1

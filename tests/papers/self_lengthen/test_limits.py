"""The length-constrained set: limits that the text keeps, woven in by a model that is not trusted."""

from __future__ import annotations

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from itercli.engine.context import Context, StoredArtifact
from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.engine.store import ROWS, Entry
from itercli.papers.self_lengthen.limit_text import SENTENCES, Stated, _number, chinese_numeral, read, say
from itercli.papers.self_lengthen.limits import Limits
from itercli.papers.self_lengthen.weave import fault, unwrapped
from itercli.papers.self_lengthen.wording import Language
from itercli.records import Message, ModelRef, Prompt, RankedExample, Record, Trajectory
from itercli.registry import register
from itercli.sampling.base import Request, Sampled, SamplerSpec
from itercli.stages.base import StageError
from itercli.training.base import Interrupted
from itercli.training.methods import Sft
from itercli.verifiers.length import Kind, LengthLimit, longgen_score
from itercli.verifiers.words import longgen_words
from tests.conftest import Project
from tests.stages.sealed import sealed

QUERY = {"en": "Write an essay about silence in music.", "zh": "请写一篇关于古代运河的文章。"}
LANGUAGES: tuple[Language, ...] = get_args(Language)
KINDS: tuple[Kind, ...] = get_args(Kind)


# -- phrases and numbers -----------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_phrase_is_read_back(language: Language, kind: Kind) -> None:
    rng = random.Random(0)
    stated = Stated(kind, (1500, 2000) if kind == "range" else (2000,))
    for numerals in (False, True)[: 1 + (language == "zh")]:
        said = {say(stated, language, rng, numerals=numerals) for _ in range(60)}
        assert len(said) >= 3  # the wording varies
        for phrase in said:
            for sentence in SENTENCES[language]:
                assert read(f"{QUERY[language]} {sentence.format(limit=phrase)}", language) == [stated]


@pytest.mark.parametrize(
    ("text", "language", "wanted"),
    [
        ("A 500-word essay.", "en", [Stated("about", (500,))]),
        ("No fewer than 3,000 words.", "en", [Stated("above", (3000,))]),
        ("200 words or more, at most 2k words", "en", [Stated("above", (200,)), Stated("below", (2000,))]),
        ("Life within a village. 300 words.", "en", [Stated("about", (300,))]),
        ("Between 1,000 and 2,000 words", "en", [Stated("range", (1000, 2000))]),
        ("two thousand words", "en", [Stated("about", (0,))]),  # seen, though not understood
        ("Give it a title of 5 words. In 1990, 30 people came.", "en", []),
        ("不得少于五百字", "zh", [Stated("above", (500,))]),
        ("两千到3000字，不超过五千字", "zh", [Stated("range", (2000, 3000)), Stated("below", (5000,))]),
        ("十字路口有一千个人", "zh", []),
    ],
)  # fmt: skip
def test_limits_are_read(text: str, language: Language, wanted: list[Stated]) -> None:
    assert read(text, language) == wanted


def test_chinese_numerals() -> None:
    known = {10: "十", 15: "十五", 110: "一百一十", 1001: "一千零一", 2500: "二千五百", 10_500: "一万零五百"}
    assert {n: chinese_numeral(n) for n in known} == known
    assert all(_number(chinese_numeral(n)) == n for n in range(1, 40_000, 37))


# -- the limit ---------------------------------------------------------------------------


def possible(stage: Limits, words: int) -> dict[tuple[str, int], LengthLimit]:
    return {(limit.kind, step): limit for limit, step, _ in stage._possible(words)}


def stage(**options: Any) -> Limits:
    base = {"of": ["all.extend"], "role": "base", "sampler": {"name": "test.weaver"}}
    return Limits.model_validate(base | options)


@pytest.mark.parametrize("words", [2000, 2001, 2400, 2999, 3000, 4500, 7000, 7999])
def test_text_keeps_every_limit_that_it_may_get(words: int) -> None:
    limits = possible(stage(), words)
    assert {kind for kind, _ in limits} >= {"about", "range", "below"}
    for (kind, step), limit in limits.items():
        assert longgen_score(words, limit) == 1
        if kind == "range":
            assert limit.low is not None
            assert limit.high is not None
            assert 2000 <= limit.low <= words < limit.high <= 8000  # never from N to N
        else:
            assert limit.n is not None
            assert limit.n % step == 0
        if kind == "above":
            assert limit.n < words  # type: ignore[operator]
        if kind == "below":
            assert limit.n > words  # type: ignore[operator]


def test_a_coarse_step_is_left_out_where_the_text_would_miss_it() -> None:
    limits = possible(stage(), 2900)
    assert limits["about", 1000].n == 3000
    assert ("about", 2000) not in limits  # 2,000, which 2,900 is not about
    assert limits["above", 1000].n == 2000


def test_options_are_checked() -> None:
    assert stage(low=500, high=500).check()
    assert not stage().check()
    shares: list[dict[str, Any]] = [{"steps": {0: 1}}, {"steps": {}}, {"kinds": {"about": -1}}]
    for wrong in [*shares, {"kinds": {"exactly": 1}}]:
        with pytest.raises(ValidationError):
            stage(**wrong)


# -- what the model made of it -----------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("In about 2,000 words, write an essay about silence in music.", ""),
        ("Write an essay about silence in music.", "no limit"),
        ("Write about 3000 words: an essay about silence in music.", "other number"),
        (
            "Write an essay about silence in music, about 2000 words, some 800 words.",
            "other number",
        ),
        ("Write an essay of less than 2000 words about silence in music.", "other kind of limit"),
        ("Silence. " * 30 + "About 2000 words.", "too long"),
        ("Write a poem of about 2000 words.", "lost content"),
        (
            "Essay on silence in music, about 2000 words, and the broken street lamps.",
            "copied an example",
        ),
    ],
)
def test_answers_are_turned_down_by_name(answer: str, reason: str) -> None:
    stated = Stated("about", (2000,))
    assert fault(QUERY["en"], answer, stated, "en", keeps=0.6, longest=2.0) == reason


def test_limit_of_the_old_instruction_may_go() -> None:
    stated = Stated("above", (300,))
    new = "写一篇关于古代运河的文章，不少于三百字。"
    assert not fault("写一篇八百字的关于古代运河的文章。", new, stated, "zh", keeps=0.9, longest=2.0)
    assert fault(
        "写一篇八百字的关于古代运河的文章。", new + "写八百字。", stated, "zh", keeps=0.9, longest=2.0
    )


def test_label_and_quotes_are_taken_off() -> None:
    assert unwrapped('Rewritten request: "Write 200 words."\n') == "Write 200 words."
    assert unwrapped('"A" and "B"') == '"A" and "B"'
    assert unwrapped("改写后的请求：“写。”") == "写。"


# -- the stage ---------------------------------------------------------------------------


class Weaver:
    """Answers with the limit appended; `mode` says how else."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        return {}

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        for request in requests:
            assert request is not None
            if stopping():
                return
            asked = request.messages[-1].content
            limit, query = re.match(r'\w+ ?["“](.*?)["”].*?[:：]\s*(.*)', asked).groups()  # type: ignore[union-attr]
            good = query.rstrip(".。") + f", {limit}."
            text = {"good": good, "never": query, "half": good if request.seed % 2 else query}[self.mode]
            yield Sampled(request.key, text, "stop", 3)

    def close(self) -> None:
        pass


@register("sampler", "test.weaver")
class WeaverSpec(SamplerSpec):
    mode: str = "good"

    def build(self) -> Weaver:
        return Weaver(self.mode)


def text_of(words: int, language: str, salt: int) -> str:
    filler = {"en": "word ", "zh": "字"}[language]
    return f"{salt} " + filler * (words - 1)


def context(
    folder: Path, language: str = "en", query: str = "", stop: threading.Event | None = None, per: int = 20
) -> Context:
    """Drafts and extensions of two iterations; a third of the drafts are shorter than 100 words."""
    prompts: dict[str, list[Record]] = {}
    artifacts: list[Any] = []
    rng = random.Random(1)
    for iteration in (1, 2):
        ids = [f"i{iteration}/{n}" for n in range(per)]
        question = [Message(role="user", content=query or QUERY[language])]
        prompts[f"propose{iteration}"] = [Prompt(id=i, messages=question) for i in ids]
        for name, low, high in (("extend", 100, 400), ("respond", 40, 160)):
            rows: list[Record] = [
                Trajectory(
                    prompt_id=i, index=0, seed=0, finish="stop", tokens=1, policy="extender@1",
                    completion=text_of(rng.randrange(low, high), language, n),
                )
                for n, i in enumerate(ids)
            ]  # fmt: skip
            artifacts.append((f"iteration-0{iteration}/{name}", Trajectory, rows))
    of = [stored(folder, *artifact) for artifact in artifacts]
    proposed = [stored(folder, f"iteration-0{k[-1]}/propose", Prompt, rows) for k, rows in prompts.items()]
    (folder / "out").mkdir(exist_ok=True)
    return Context(
        name="limits",
        iteration=2,
        seed=5,
        entry=Entry(folder / "out", "examples", "key"),
        inputs={"of": of, "prompts": proposed},
        models={"policy": ModelRef(base="", version="base@0", digest="d")},
        shared={},
        stop=stop or threading.Event(),
        send=lambda message: None,
    )


def stored(folder: Path, label: str, record: type[Record], rows: list[Record]) -> StoredArtifact:
    return StoredArtifact(sealed(folder / label, record, rows).entry, label)


def small(mode: str = "good", **options: Any) -> Limits:
    shape = {
        "low": 100,
        "high": 400,
        "steps": {50: 0.8, 100: 0.2},
        "sampler": {"name": "test.weaver", "mode": mode},
    }
    return stage(**shape | options)


def made(ctx: Context) -> tuple[list[RankedExample], dict[str, dict[str, Any]]]:
    rows = list(read_rows(ctx.work / ROWS, RankedExample))
    return rows, json.loads((ctx.work / "limits.json").read_text())


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("mode", ["good", "half", "never"])
def test_every_example_states_the_limit_that_its_text_keeps(
    tmp_path: Path, language: Language, mode: str
) -> None:
    ctx = context(tmp_path, language)
    small(mode, language=language).run(ctx)
    rows, limits = made(ctx)
    assert [r.prompt_id for r in rows] == list(limits)
    assert len({r.prompt_id for r in rows}) == len(rows) == 80 - ctx.counts["left out: length"]
    for row in rows:
        found = limits[row.prompt_id]
        limit = LengthLimit(**found["limit"])
        assert read(row.messages[-1].content, language) == [Stated.of(limit)]
        words = longgen_words(row.responses[0])
        assert words == found["words"]
        assert 100 <= words < 400
        assert longgen_score(words, limit) == 1
        assert Sft().needed(row.scores, row.target) == [0]  # ready for `train`
    by = Counter(found["by"] for found in limits.values())
    assert by == {"good": {"model": len(rows)}, "never": {"template": len(rows)}}.get(mode, by)
    assert {f"woven by: {k}": n for k, n in by.items()}.items() <= ctx.counts.items()
    if mode == "half":
        assert set(by) == {"model", "template"}
        assert ctx.counts["rejected: no limit"] > 0
    if mode == "never":
        assert ctx.counts["calls: weave"] == 3 * len(rows)
        assert len({r.messages[-1].content for r in rows}) > 10  # the fixed sentences vary, too
    if language == "zh":
        assert 0.25 < sum(found["chinese_numerals"] for found in limits.values()) / len(rows) < 0.75


def test_shares_of_kinds_and_steps(tmp_path: Path) -> None:
    ctx = context(tmp_path, per=150)
    small().run(ctx)
    _, limits = made(ctx)
    kinds = Counter(found["limit"]["kind"] for found in limits.values())
    shares = {kind: n / kinds.total() for kind, n in kinds.items()}
    assert shares == pytest.approx({"about": 0.4, "range": 0.25, "above": 0.1, "below": 0.25}, abs=0.06)
    steps = Counter(found["step"] for found in limits.values())
    assert steps[50] / steps.total() == pytest.approx(0.8, abs=0.1)


def test_on_failure_drop_and_instructions_with_a_length_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="not woven in"):
        small("never", on_failure="drop").run(context(tmp_path))
    # Appending to these would ask for two lengths at once.
    query = "Write 5000 words about music."
    with pytest.raises(StageError, match="names another length"):
        small("never").run(context(tmp_path / "own", query=query))


def test_quota_takes_texts_of_all_iterations(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    small(quota=12).run(ctx)
    rows, limits = made(ctx)
    assert len(rows) == len(limits) == 12
    assert {r.prompt_id.split("/")[0] for r in rows} == {"iteration-01", "iteration-02"}


def test_resumes_with_the_same_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = context(tmp_path / "whole")
    small("half").run(whole)
    stop = threading.Event()
    cut = context(tmp_path / "cut", stop=stop)
    calls = 0

    def generate(self: Weaver, requests: Any, stopping: Any) -> Iterator[Sampled]:
        nonlocal calls
        for drawn in plain(self, requests, stopping):
            calls += 1
            if calls == 25:
                stop.set()
            yield drawn

    plain = Weaver.generate
    monkeypatch.setattr(Weaver, "generate", generate)
    with pytest.raises(Interrupted):
        small("half").run(cut)
    cut.close()
    monkeypatch.undo()
    again = context(tmp_path / "cut")
    small("half").run(again)
    assert again.resumed_rows == 25
    assert made(again) == made(whole)
    assert again.counts == whole.counts


def test_runs_after_the_loop_and_feeds_a_training(project: Project) -> None:
    limits = "{uses: self_lengthen.limits, of: [all.sample], role: policy, low: 1, high: 9, steps: {1: 1.0}}"
    train = "{uses: train, examples: limits, method: toy, role: policy, init_from: previous}"
    project.run_toy(f"after.limits={limits}", f"after.train={train}")
    run = all_runs(project.path / "runs")[0]
    entry = run.entry("after/limits")
    assert entry is not None
    assert entry.manifest is not None
    # Two iterations of 8 tasks, each drawn twice; the toy answers "N at LEVEL" to everything.
    assert entry.manifest["rows"] == 32 - entry.manifest["counts"].get("left out: duplicate", 0)
    assert entry.manifest["counts"]["woven by: template"] == entry.manifest["rows"]
    trained = run.entry("after/train")
    assert trained is not None
    assert trained.manifest is not None
    assert trained.manifest["metrics"]["examples"] == entry.manifest["rows"]

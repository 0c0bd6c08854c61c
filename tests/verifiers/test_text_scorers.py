"""The scorers of long texts: values, measures, checks, errors."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from itercli import registry
from itercli.recipe.fields import parse_component
from itercli.records import Message, Prompt, Score, Trajectory
from itercli.verifiers.base import Scorer
from itercli.verifiers.text_scorers import LonGenScorer, NoLength, Text

NAMES = ("text", "longgen", "longbench_write")
STORY = "The rain had stopped. A woman crossed the empty square and looked up at the clock."


def make(name: str, **options: Any) -> Scorer:
    scorer = parse_component("scorer", {"name": name, **options})
    assert isinstance(scorer, Scorer)
    return scorer


def judge(
    scorer: Scorer,
    text: str,
    *,
    finish: Literal["stop", "length", "error"] = "stop",
    ask: str = "Write a short scene.",
    draft: str | None = None,
    **meta: Any,
) -> Score:
    prompt = Prompt(id="p", messages=[Message(role="user", content=ask)], meta=meta)
    trajectory = Trajectory(
        prompt_id="p", index=3, seed=1, completion=text, finish=finish, tokens=9, policy="generator@1",
        meta={} if draft is None else {"draft": draft},
    )  # fmt: skip
    return scorer.open().score(prompt, trajectory)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", [STORY, "", "\n", "今天下雨。\n\n明天也下雨。", STORY * 40])
def test_rows_hold_what_is_declared(name: str, text: str) -> None:
    scorer = make(name, check="en")
    score = judge(scorer, text, draft=STORY, required=100, length={"kind": "about", "n": 100})
    assert set(score.meta) == set(scorer.MEASURES)
    assert all(n is None or isinstance(n, int | float) for n in score.meta.values())
    assert Score.model_validate(json.loads(score.model_dump_json())) == score
    assert score.key == ("p", 3)


def test_text_measures_without_a_judgement() -> None:
    score = judge(Text(), STORY)
    assert (score.value, score.passed, score.outcome) == (16, None, "")
    assert score.meta["check_ok"] is None
    assert score.meta["ratio"] is None
    assert score.meta["retention"] is None
    assert score.meta["distinct_1"] is None  # shorter than a window
    assert score.meta["finished"] is True
    assert score.meta["language_match"] == 1
    assert judge(Text(), STORY, finish="length").meta["finished"] is False


def test_check_decides_passed() -> None:
    scorer = make("text", check={"language": "en", "ngram": 5})
    good, bad = judge(scorer, STORY), judge(scorer, f"My version: {STORY} {STORY} and")
    assert (good.passed, good.outcome, good.message, good.meta["check_ok"]) == (True, "pass", "", True)
    assert (bad.passed, bad.outcome, bad.meta["check_ok"]) == (False, "closing", False)
    assert bad.message == "closing, meta_words, repeated_ngram"


def test_draft_is_compared() -> None:
    measures = judge(Text(), STORY + " " + STORY, draft=STORY).meta
    assert (measures["ratio"], measures["retention"]) == (2, 1)
    assert judge(Text(), STORY, draft="").meta["ratio"] is None


def test_language_of_the_prompt_counts() -> None:
    chinese = "今天下雨，她走过空荡荡的广场。"
    assert judge(Text(), chinese).meta["language_match"] == 0
    assert judge(Text(), chinese, ask="写一段短文").meta["language_match"] == 1
    assert judge(Text(), chinese, language="zh").meta["language_match"] == 1
    assert judge(Text(language="en"), chinese, language="zh").meta["language_match"] == 0


def test_longgen() -> None:
    scorer = make("longgen")
    assert judge(scorer, "w " * 30, length={"kind": "above", "n": 40}).value == pytest.approx(0.5)
    score = judge(scorer, "字" * 150, length={"kind": "range", "low": 50, "high": 100, "n": None})
    assert score.value == score.meta["length_score"] == 0
    assert score.meta["words"] == 150


def test_longbench_write() -> None:
    scorer = make("longbench_write")
    text = "one 2 three-four 五"  # five for one benchmark, four for the other
    score = judge(scorer, text, required=8, length={"kind": "required", "n": 8})
    assert score.value == score.meta["length_score"] == pytest.approx(50)
    assert (score.meta["words"], score.meta["longbench_words"]) == (4, 4)
    assert judge(scorer, text, length={"kind": "about", "n": 2}).value == pytest.approx(100 * (1 - 1 / 3))
    assert judge(scorer, "", required=8).value == 0


@pytest.mark.parametrize(
    ("name", "meta"),
    [("longgen", {}), ("longgen", {"length": {"kind": "about"}}), ("longgen", {"length": "2000 words"}),
     ("longbench_write", {}), ("longbench_write", {"required": 0}), ("longbench_write", {"required": "100"}),
     ("longbench_write", {"length": {"kind": "above", "n": 100}})],
)  # fmt: skip
def test_prompts_without_a_length(name: str, meta: dict[str, Any]) -> None:
    with pytest.raises(NoLength, match=rf"prompt 'p' has no .* take data={name}, or score with `text`"):
        judge(make(name), STORY, **meta)


@pytest.mark.parametrize(
    ("source", "file"), [("longgen", "LonGen_24"), ("longbench_write", "longbench_write")]
)
def test_published_prompts_can_be_scored(source: str, file: str, shared_data) -> None:  # type: ignore[no-untyped-def]
    data = parse_component(
        "source", {"name": source, "path": str(shared_data("self_lengthen") / f"{file}.jsonl")}
    )
    prompts = list(data.prompts())  # type: ignore[attr-defined]
    scorer = make(source).open()
    full = {"longgen": 1, "longbench_write": 100}[source]
    for prompt in prompts:
        length = prompt.meta["length"]
        text = "word " * (length["n"] or length["high"])
        trajectory = Trajectory(
            prompt_id=prompt.id, index=0, seed=1, completion=text, finish="stop", tokens=1, policy="p@0"
        )
        assert scorer.score(prompt, trajectory).value == full, prompt.id


def test_options_are_part_of_the_key() -> None:
    assert Text().key_params() != make("text", check="en").key_params()
    assert make("text", check="en").key_params() == make("text", check={"language": "en"}).key_params()
    assert make("text", check="en").key_params() != make("text", check={"ngram": 9}).key_params()
    assert set(NAMES) <= set(registry.names("scorer"))
    assert LonGenScorer.MEASURES[-1] == "length_score"

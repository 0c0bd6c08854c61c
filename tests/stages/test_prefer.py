"""`prefer`: a causal LM that answers A or B, in both orders, the same bytes after any stop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from itercli.engine.rows import read_rows
from itercli.engine.store import JOURNAL, ROWS
from itercli.records import Message, ModelRef, Prompt, Score, Trajectory
from itercli.sampling.prompting import encode_prompt
from itercli.stages.base import StageError
from itercli.stages.prefer import Prefer
from itercli.training.base import Interrupted
from itercli.training.models import load_model, load_tokenizer
from itercli.training.preference_model import FRAME, answer_ids, question
from tests.stages.test_classify import context
from tests.training.tiny import tiny_ref

TEXTS = ["yes {b}", "no", "{context}?", "maybe"]
PROMPTS = [Prompt(id=f"p{i}", messages=[Message(role="user", content=f"q{i}")]) for i in range(3)]


def inputs(n: int = 4) -> dict[str, Any]:
    drawn = [
        Trajectory(
            prompt_id=p.id, index=i, seed=0, completion=TEXTS[i], finish="stop", tokens=1, policy="policy@1"
        )
        for p in PROMPTS
        for i in range(n)
    ]
    return {"prompts": (Prompt, PROMPTS), "of": (Trajectory, drawn)}


def stage(**options: Any) -> Prefer:
    return Prefer.model_validate({"of": "sample", "role": "judge", **options})


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_ref(tmp_path_factory.mktemp("judge"))


def asked_directly(ref: ModelRef, prompt: Prompt, a: str, b: str) -> float:
    """p(A) / (p(A) + p(B)), one question alone, nothing padded."""
    model, tokenizer = load_model(ref, dtype=torch.float32, trainable=False), load_tokenizer(ref)
    text = f"[CONTEXT] {prompt.messages[0].content} [RESPONSE A] {a} [RESPONSE B] {b} \n"
    ids = encode_prompt(tokenizer, [Message(role="user", content=text)])
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1]
    one, two = (logits[tokenizer.convert_tokens_to_ids(letter)].double().exp().item() for letter in "AB")
    return one / (one + two)


def test_values_are_the_models_own_over_both_orders(tmp_path: Path, judge: ModelRef) -> None:
    ctx = context(tmp_path, judge, inputs(3))
    stage(batch_tokens=200).run(ctx)
    rows = list(read_rows(ctx.work / ROWS, Score))
    assert [r.key for r in rows] == [t.key for t in inputs(3)["of"][1]]
    for prompt in PROMPTS:
        group = [r for r in rows if r.prompt_id == prompt.id]
        assert sum(r.value for r in group) == pytest.approx(1.5)
        for i, row in enumerate(group):
            others = [j for j in range(3) if j != i]
            first = [asked_directly(judge, prompt, TEXTS[i], TEXTS[j]) for j in others]
            second = [1 - asked_directly(judge, prompt, TEXTS[j], TEXTS[i]) for j in others]
            wanted = sum(f + s for f, s in zip(first, second, strict=True)) / 4
            assert row.value == pytest.approx(wanted, abs=1e-6)
            gap = sum(abs(f - s) for f, s in zip(first, second, strict=True)) / 2
            assert row.meta == {"comparisons": 2, "order_gap": pytest.approx(gap, abs=1e-6), "truncated": 0}


def test_a_model_that_knows_only_the_place_has_no_preference(tmp_path: Path, judge: ModelRef) -> None:
    same = inputs(2)
    same["of"] = (Trajectory, [t.model_copy(update={"completion": "same"}) for t in same["of"][1]])
    ctx = context(tmp_path, judge, same)
    stage().run(ctx)
    rows = list(read_rows(ctx.work / ROWS, Score))
    assert [r.value for r in rows] == pytest.approx([0.5] * 6)
    assert all(r.meta["order_gap"] > 0 for r in rows)


def test_stopped_and_continued_is_the_same(tmp_path: Path, judge: ModelRef) -> None:
    whole = context(tmp_path / "whole", judge, inputs())
    stage().run(whole)
    stop = threading.Event()
    cut = context(tmp_path / "cut", judge, inputs(), stop)
    seen: list[int] = []

    def stopping() -> bool:
        seen.append(1)
        return len(seen) > 1

    cut.stopping = stopping  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        stage().run(cut)
    cut.close()
    kept = len((tmp_path / "cut/out" / JOURNAL).read_text().splitlines())
    assert 0 < kept < len(inputs()["of"][1])
    again = context(tmp_path / "cut", judge, inputs())
    stage().run(again)
    assert again.resumed_rows == kept
    assert (again.work / ROWS).read_bytes() == (whole.work / ROWS).read_bytes()


def test_a_long_conversation_loses_its_beginning(judge: ModelRef) -> None:
    tokenizer = load_tokenizer(judge)
    long = [Message(role="user", content="begin " + "x" * 100 + " end")]
    whole, lost = question(tokenizer, long, "one", "two", FRAME, 1000)
    assert lost == 0
    ids, lost = question(tokenizer, long, "one", "two", FRAME, len(whole) - 40)
    text = tokenizer.decode(ids)
    assert (len(ids), lost) == (len(whole) - 40, 40)
    assert "begin" not in text
    assert "x end [RESPONSE A] one [RESPONSE B] two" in text
    with pytest.raises(ValueError, match="more than max_length = 30"):
        question(tokenizer, long, "one", "two", FRAME, 30)


def test_bad_input_is_named(tmp_path: Path, judge: ModelRef) -> None:
    with pytest.raises(StageError, match=r"3 prompts have one answer only, for example 'p0'"):
        stage().run(context(tmp_path / "a", judge, inputs(1)))
    with pytest.raises(StageError, match="prompt 'p0': two answers take"):
        stage(max_length=20).run(context(tmp_path / "b", judge, inputs(2)))
    with pytest.raises(ValidationError, match=r"\{b\} is missing"):
        stage(frame="{context} {a}")

    class Words:
        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [1, 2]}

    with pytest.raises(ValueError, match="not as one token each"):
        answer_ids(Words())

"""`likelihood`: token by token as computed row by row, whatever the batches; resumes; beside repetition."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from itercli.engine.context import Context
from itercli.engine.journal import RowJournal
from itercli.engine.rows import read_rows
from itercli.engine.store import ROWS, Entry
from itercli.records import Message, ModelRef, Prompt, Trajectory
from itercli.sampling.prompting import encode_example
from itercli.stages.base import StageError
from itercli.stages.likelihood import Likelihood, LikelihoodStage
from itercli.training.base import Interrupted
from itercli.training.models import load_model, load_tokenizer
from tests.stages.sealed import sealed
from tests.training.tiny import tiny_ref

TEXTS = ["assign y = a;", "a b c d " * 12, "x", "", "always @(posedge clk) q <= d;", "z" * 600]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_ref(tmp_path_factory.mktemp("tiny"))


def stage(**options: Any) -> LikelihoodStage:
    return LikelihoodStage.model_validate(
        {"of": "sample", "role": "policy", "positions": [2, 8, 16], **options}
    )


def context(folder: Path, model: ModelRef, stop: threading.Event | None = None) -> Context:
    """Two prompts, whose completions take turns in `TEXTS`."""
    inputs: dict[str, list[Any]] = {}
    prompts = [Prompt(id=i, messages=[Message(role="user", content=f"write {i}")]) for i in ("p", "q")]
    drawn = [
        Trajectory(
            prompt_id="pq"[n % 2],
            index=n // 2,
            seed=0,
            completion=text,
            finish="stop",
            tokens=1,
            policy="x@0",
        )
        for n, text in enumerate(TEXTS)
    ]
    for slot, record, rows in (("prompts", Prompt, prompts), ("of", Trajectory, drawn)):
        inputs[slot] = [sealed(folder / slot, record, rows)]
    work = folder / "out"
    work.mkdir(exist_ok=True)
    return Context(
        name="likelihood",
        iteration=1,
        seed=3,
        entry=Entry(work, "metrics", "key"),
        inputs=inputs,
        models={"model": model},
        shared={},
        stop=stop or threading.Event(),
        send=lambda message: None,
    )


def measured(ctx: Context) -> dict[tuple[str, int], Likelihood]:
    return {row.key: row for row in read_rows(ctx.work / ROWS, Likelihood)}


def plain_nll(model: ModelRef, prompt: str, text: str) -> list[float]:
    """Token by token, one row, without any of the stage's code."""
    tokenizer, net = load_tokenizer(model), load_model(model, dtype=torch.float32, trainable=False)
    ids, start = encode_example(tokenizer, [Message(role="user", content=prompt)], text)
    with torch.no_grad():
        logprobs = net(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [-float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids) - 1)]


@pytest.mark.parametrize("batch_tokens", [1, 300])
def test_equals_a_plain_computation_row_by_row(tmp_path: Path, model: ModelRef, batch_tokens: int) -> None:
    ctx = context(tmp_path, model)
    stage(batch_tokens=batch_tokens).run(ctx)
    rows = measured(ctx)
    for n, text in enumerate(TEXTS):
        key = ("pq"[n % 2], n // 2)
        if text in ("", TEXTS[-1]):
            assert key not in rows
            continue
        wanted = plain_nll(model, f"write {key[0]}", text)
        assert rows[key].tokens == len(wanted) == len(text)  # the tokenizer is one of bytes
        assert rows[key].nll == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)
        for position, point in rows[key].curve.items():
            assert point["nll"] == pytest.approx(sum(wanted[:position]) / position, rel=1e-4)
        assert sorted(rows[key].curve) == [p for p in (2, 8, 16) if p <= len(text)]
    assert ctx.counts == {"left out: empty": 1, "left out: longer than the context": 1}


def test_metrics_are_means_over_prompts_and_stand_beside_repetition(tmp_path: Path, model: ModelRef) -> None:
    ctx = context(tmp_path, model)
    stage().run(ctx)
    rows = measured(ctx)
    assert set(ctx.metrics) == {"nll", "rep_4", "rep_10"} == set(stage().metrics)
    by_prompt = [[r.nll for r in rows.values() if r.prompt_id == p] for p in ("p", "q")]
    nll = ctx.metrics["nll"]
    assert nll["value"] == pytest.approx(sum(sum(v) / len(v) for v in by_prompt) / 2)
    assert nll["low"] <= nll["value"] <= nll["high"]
    assert nll["prompts"] == 2
    assert rows["q", 0].rep_4 > 0.8  # the loop
    assert rows["p", 0].rep_4 == 0
    curve = json.loads((ctx.work / "curve.json").read_text())["positions"]
    assert [(p["position"], p["completions"]) for p in curve] == [(2, 3), (8, 3), (16, 2)]
    two = [rows[k].curve[16]["nll"] for k in (("q", 0), ("p", 2))]
    assert curve[2]["nll"] == pytest.approx(sum(two) / 2)


def test_resumes_with_the_same_numbers(
    tmp_path: Path, model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = context(tmp_path / "whole", model)
    stage(batch_tokens=150).run(whole)
    stop = threading.Event()
    cut = context(tmp_path / "cut", model, stop)
    append = RowJournal.append

    def append_and_stop(journal: RowJournal[Any], row: Any) -> None:
        append(journal, row)
        stop.set()

    monkeypatch.setattr(RowJournal, "append", append_and_stop)
    with pytest.raises(Interrupted):
        stage(batch_tokens=150).run(cut)
    cut.close()
    monkeypatch.undo()
    again = context(tmp_path / "cut", model)
    stage(batch_tokens=150).run(again)
    assert 0 < again.resumed_rows < 4
    assert (again.work / ROWS).read_bytes() == (whole.work / ROWS).read_bytes()
    assert again.metrics == whole.metrics


def test_nothing_to_measure_is_an_error(
    tmp_path: Path, model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.stages.test_likelihood.TEXTS", ["", ""])
    with pytest.raises(StageError, match="left out: empty"):
        stage().run(context(tmp_path, model))

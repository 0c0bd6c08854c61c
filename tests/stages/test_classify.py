"""`reward` and `estimate`: what a classifier says row by row, the same bytes after any stop."""

from __future__ import annotations

import json
import math
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from itercli.engine.context import Context
from itercli.engine.journal import RowJournal
from itercli.engine.rows import read_rows
from itercli.engine.store import ROWS, Entry
from itercli.preference.uncertainty import LN2
from itercli.records import Message, ModelRef, PreferencePair, Prompt, Record, Score, Trajectory
from itercli.stages.base import StageError
from itercli.stages.classify import ClassifyStage, batches
from itercli.stages.estimate import Estimate
from itercli.stages.reward import RewardStage
from itercli.training.base import Interrupted
from itercli.training.classifier import classify, load_classifier
from itercli.training.classifier_inputs import reward_input
from itercli.training.classifiers import Estimator, Reward
from itercli.training.estimator import both_orders
from itercli.training.models import load_tokenizer
from tests.stages.sealed import sealed
from tests.training.classifiers import LORA, preferences, tiny
from tests.training.tiny import tiny_job

NEW = preferences(12, seed=1)


def trained(kind: str, folder: Path, method: Reward | Estimator) -> ModelRef:
    start = tiny(kind, folder / "start")
    job = tiny_job(folder, start, preferences(48), epochs=8, batch_size=16, micro_batch_size=16, **LORA)  # type: ignore[arg-type]
    method.train(job)
    return start.model_copy(update={"adapter": str(job.out / "adapter"), "version": "role@1"})


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return trained("bert", tmp_path_factory.mktemp("reward"), Reward())


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return trained("llama", tmp_path_factory.mktemp("estimator"), Estimator())


def context(
    folder: Path,
    model: ModelRef,
    inputs: dict[str, tuple[type[Record], list[Any]]],
    stop: threading.Event | None = None,
) -> Context:
    artifacts = {}
    for slot, (record, rows) in inputs.items():
        artifacts[slot] = [sealed(folder / slot, record, rows)]
    work = folder / "out"
    work.mkdir(exist_ok=True)
    return Context(
        name="stage",
        iteration=1,
        seed=3,
        entry=Entry(work, "scores", "key"),
        inputs=artifacts,
        models={"model": model},
        shared={},
        stop=stop or threading.Event(),
        send=lambda message: None,
    )


def completions() -> dict[str, tuple[type[Record], list[Any]]]:
    """The first prompt is too long for the classifier's 128 tokens."""
    prompts = [
        Prompt(id=f"p{i}", messages=[Message(role="user", content="q " * 200 if i == 0 else f"q{i}")])
        for i in range(6)
    ]
    drawn = [
        Trajectory(
            prompt_id=f"p{i % 6}",
            index=i // 6,
            seed=0,
            completion=text,
            finish="stop",
            tokens=1,
            policy="policy@1",
        )
        for i, text in enumerate(t for p in NEW for t in (p.chosen, p.rejected))
    ]
    return {"prompts": (Prompt, prompts), "of": (Trajectory, drawn)}


def pairs(rows: list[PreferencePair] = NEW) -> dict[str, tuple[type[Record], list[Any]]]:
    return {"of": (PreferencePair, rows)}


def reward_stage(**options: Any) -> RewardStage:
    return RewardStage.model_validate({"of": "sample", "role": "reward", "batch_tokens": 100, **options})


def estimate_stage(**options: Any) -> Estimate:
    return Estimate.model_validate({"of": "pair", "role": "estimator", "passes": 5, **options})


def test_rewards_are_those_of_the_model_row_by_row(tmp_path: Path, reward: ModelRef) -> None:
    inputs = completions()
    ctx = context(tmp_path, reward, inputs)
    reward_stage().run(ctx)
    rows = list(read_rows(ctx.work / ROWS, Score))
    model = load_classifier(reward, 1, dtype=torch.float32, trainable=False)
    tokenizer = load_tokenizer(reward)
    prompts = {p.id: p for p in inputs["prompts"][1]}
    assert [r.key for r in rows] == [t.key for t in inputs["of"][1]]
    for row, drawn in zip(rows, inputs["of"][1], strict=True):
        encoded = reward_input(tokenizer, prompts[row.prompt_id].messages, drawn.completion, 128)
        wanted = float(classify(model, [encoded.ids])[0, 0])
        assert row.value == pytest.approx(wanted, abs=1e-5)
        assert (row.completion, row.policy) == (drawn.completion, drawn.policy)
        assert row.meta == {"tokens": len(encoded.ids), "truncated": encoded.cut}
        assert (row.meta["truncated"] > 0) == (row.prompt_id == "p0")
    assert ctx.counts == {"truncated": sum(t.prompt_id == "p0" for t in inputs["of"][1])}
    values = [r.value for r in rows]
    assert all(chosen > rejected for chosen, rejected in zip(values[::2], values[1::2], strict=True))


def test_probabilities_bald_and_both_orders_are_kept(tmp_path: Path, estimator: ModelRef) -> None:
    dropped = NEW[0].model_copy(update={"index": 9, "kept": False, "reason": "tie"})
    ctx = context(tmp_path, estimator, pairs([*NEW[:6], dropped, *NEW[6:]]))
    estimate_stage().run(ctx)
    rows = list(read_rows(ctx.work / ROWS, PreferencePair))
    assert rows.pop(6) == dropped
    assert [r.key for r in rows] == [p.key for p in NEW]
    model = load_classifier(estimator, 2, dtype=torch.float32, trainable=False)
    tokenizer = load_tokenizer(estimator)
    for row, pair in zip(rows, NEW, strict=True):
        assert len(row.probabilities) == 5
        assert len(set(row.probabilities)) == 5
        assert all(sum(p) == pytest.approx(1) for p in row.probabilities)
        mean = sum(p[0] for p in row.probabilities) / 5
        entropies = [-sum(q * math.log(q) for q in p) for p in row.probabilities]
        gain = -mean * math.log(mean) - (1 - mean) * math.log(1 - mean) - sum(entropies) / 5
        assert row.bald == pytest.approx(gain, abs=1e-9)
        assert 0 < row.bald < LN2
        assert row.vote == sum(p[0] > 0.5 for p in row.probabilities) / 5
        first = [float(classify(model, [e.ids]).softmax(1)[0, 0]) for e in both_orders(tokenizer, pair, 512)]
        assert row.meta["p_first"] == pytest.approx(first, abs=1e-5)
        assert row.meta["swap_consistent"] == ((first[0] > 0.5) == (first[1] < 0.5))
        assert row.meta["truncated"] == 0
        assert row.model_copy(update={"probabilities": [], "bald": None, "vote": None, "meta": {}}) == pair
    assert ctx.metrics["agree"] > 0.9
    assert set(ctx.metrics) == {"agree", "bald", "swap_consistent"}


def test_answers_read_apart_are_judged_by_their_rewards(tmp_path: Path, reward: ModelRef) -> None:
    ctx = context(tmp_path, reward, pairs())
    estimate_stage(reads="apart").run(ctx)
    rows = list(read_rows(ctx.work / ROWS, PreferencePair))
    model = load_classifier(reward, 1, dtype=torch.float32, trainable=False)
    tokenizer = load_tokenizer(reward)
    for row, pair in zip(rows, NEW, strict=True):
        r = [
            float(classify(model, [reward_input(tokenizer, pair.messages, text, 512).ids])[0, 0])
            for text in (pair.chosen, pair.rejected)
        ]
        better = 1 / (1 + math.exp(r[1] - r[0]))
        assert row.meta["p_first"] == pytest.approx([better, 1 - better], abs=1e-5)
        assert row.meta["swap_consistent"]
        assert len(set(row.probabilities)) == 5
        assert 0 < (row.bald or 0) < LN2
    # Answers that are read apart don't know of an order, so a turned pair has the opposite passes.
    turned = [p.model_copy(update={"chosen": p.rejected, "rejected": p.chosen}) for p in NEW]
    ctx = context(tmp_path / "turned", reward, pairs(turned))
    estimate_stage(reads="apart").run(ctx)
    for row, other in zip(rows, read_rows(ctx.work / ROWS, PreferencePair), strict=True):
        for one, two in zip(row.probabilities, other.probabilities, strict=True):
            assert one == pytest.approx(two[::-1], abs=1e-5)


def test_orders_alternate_with_the_same_masks(tmp_path: Path, estimator: ModelRef) -> None:
    """Turned passes are those of the turned pair, read the other way round."""
    turned = [p.model_copy(update={"chosen": p.rejected, "rejected": p.chosen}) for p in NEW]
    found = []
    for name, rows, order in (
        ("a", NEW, "alternate"),
        ("b", NEW, "chosen_first"),
        ("c", turned, "chosen_first"),
    ):
        ctx = context(tmp_path / name, estimator, pairs(rows))
        estimate_stage(order=order).run(ctx)
        found.append([r.probabilities for r in read_rows(ctx.work / ROWS, PreferencePair)])
    for alternate, chosen_first, of_turned in zip(*found, strict=True):
        for n, one in enumerate(alternate):
            assert one == pytest.approx(of_turned[n][::-1] if n % 2 else chosen_first[n], abs=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 300])
def test_passes_do_not_depend_on_what_runs_beside_them(
    tmp_path: Path, estimator: ModelRef, batch_tokens: int
) -> None:
    """One row at a time, pairs cut in the middle, or all at once: the same masks, so the same numbers."""
    found = []
    for tokens, rows in ((100_000, NEW), (batch_tokens, NEW[::-1][:5])):
        ctx = context(tmp_path / str(tokens), estimator, pairs(rows))
        estimate_stage(batch_tokens=tokens).run(ctx)
        found.append({r.key: r for r in read_rows(ctx.work / ROWS, PreferencePair)})
    for key, row in found[1].items():
        for one, other in zip(row.probabilities, found[0][key].probabilities, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("kind", ["reward", "estimate"])
def test_stopped_and_resumed_with_the_same_bytes(
    tmp_path: Path, reward: ModelRef, estimator: ModelRef, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    stage: ClassifyStage
    stage, model, inputs, total = (
        (reward_stage(), reward, completions(), 24)
        if kind == "reward"
        else (estimate_stage(batch_tokens=1500), estimator, pairs(), 12)
    )
    whole = context(tmp_path / "whole", model, inputs)
    stage.run(whole)
    append = RowJournal.append

    class Killed(BaseException):
        pass

    def append_then_die(journal: RowJournal[Any], row: Any) -> None:
        append(journal, row)
        if len(journal.done) in (2, 7):  # inside a batch
            raise Killed

    monkeypatch.setattr(RowJournal, "append", append_then_die)
    for _ in range(2):
        cut = context(tmp_path / "cut", model, inputs)
        with pytest.raises(Killed):
            stage.run(cut)
        cut.close()
    monkeypatch.undo()
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        stage.run(stopped := context(tmp_path / "cut", model, inputs, stop))
    stopped.close()
    again = context(tmp_path / "cut", model, inputs)
    stage.run(again)
    assert again.resumed_rows == 7 < total
    assert (again.work / ROWS).read_bytes() == (whole.work / ROWS).read_bytes()
    assert (again.metrics, again.counts) == (whole.metrics, whole.counts)


def test_an_estimator_without_dropout_is_an_error(tmp_path: Path, estimator: ModelRef) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(estimator.adapter or "", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_dropout": 0.0}))
    plain = estimator.model_copy(update={"adapter": str(folder)})
    with pytest.raises(StageError, match=r"no dropout is active in role@1.*training\.lora\.dropout"):
        estimate_stage().run(context(tmp_path, plain, pairs()))


def test_a_model_without_head_is_an_error(tmp_path: Path, estimator: ModelRef) -> None:
    bare = estimator.model_copy(update={"adapter": None})
    with pytest.raises(StageError, match=r"stage: role@1 .* has no trained head"):
        reward_stage().run(context(tmp_path, bare, completions()))


def test_nothing_to_ask_about_is_no_error(tmp_path: Path, estimator: ModelRef) -> None:
    """A reward model that gives only ties leaves no pairs; what then is the trainer's `on_empty`."""
    ctx = context(tmp_path, estimator, pairs([]))
    estimate_stage().run(ctx)
    assert list(read_rows(ctx.work / ROWS, PreferencePair)) == []
    assert ctx.metrics == {}


def test_batches_hold_all_rows_and_no_more_than_their_tokens() -> None:
    lengths = {("p", i): n for i, n in enumerate([5, 30, 7, 7, 12, 1, 3])}
    found = list(batches(lengths, 20))
    assert sorted(key for batch in found for key in batch) == sorted(lengths)
    assert found[0] == [("p", 1)]  # too long, alone
    for batch in found[1:]:
        assert len(batch) * max(lengths[key] for key in batch) <= 20
    assert len(found) == 4

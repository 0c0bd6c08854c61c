"""`divergence`: equals a plain computation with both models; 0 for equal ones; resumes; needs own samples."""

from __future__ import annotations

import math
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
from itercli.stages.divergence import Divergence, DivergenceStage
from itercli.training.base import Interrupted, LoraSpec
from itercli.training.models import load_model, load_tokenizer, save_adapter
from tests.conftest import Project
from tests.recipe.test_plan import EVALUATE, toy
from tests.stages.sealed import sealed
from tests.training.tiny import tiny_ref

TEXTS = ["assign y = a;", "a b c d " * 12, "x", "", "always @(posedge clk)", "z" * 90]
Models = tuple[ModelRef, ModelRef]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_ref(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module", params=["weights", "adapter"])
def models(
    start: ModelRef, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Models:
    """A policy with weights of its own, or with an adapter on the start model's; and the start model."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "weights":
        made = tiny_ref(folder, seed=1)
    else:
        net = load_model(start, dtype=torch.float32, lora=LoraSpec(r=4, alpha=32))
        with torch.no_grad():
            for name, tensor in net.named_parameters():
                if "lora_B" in name:  # zeros in a new adapter, which would change nothing
                    tensor.normal_(std=0.3)
        save_adapter(net, folder)
        made = start.model_copy(update={"adapter": str(folder)})
    return made.model_copy(update={"version": "policy@1", "digest": request.param}), start


def context(folder: Path, models: Models, stop: threading.Event | None = None) -> Context:
    """Two prompts, whose completions take turns in `TEXTS`; every third one was cut off."""
    prompts = [Prompt(id=i, messages=[Message(role="user", content=f"write {i}")]) for i in ("p", "q")]
    drawn = [
        Trajectory(
            prompt_id="pq"[n % 2], index=n // 2, seed=0, completion=text, tokens=1, policy="policy@1",
            finish="length" if n % 3 == 2 else "stop",
        )
        for n, text in enumerate(TEXTS)
    ]  # fmt: skip
    inputs: dict[str, list[Any]] = {}
    for slot, record, rows in (("prompts", Prompt, prompts), ("of", Trajectory, drawn)):
        inputs[slot] = [sealed(folder / slot, record, rows)]
    (folder / "out").mkdir(exist_ok=True)
    return Context(
        name="kl", iteration=1, seed=3, entry=Entry(folder / "out", "metrics", "key"), inputs=inputs,
        models=dict(zip(("policy", "reference"), models, strict=True)), shared={},
        stop=stop or threading.Event(), send=lambda message: None,
    )  # fmt: skip


def stage(**options: Any) -> DivergenceStage:
    return DivergenceStage.model_validate({"of": "evaluate.sample", "role": "policy", **options})


def measured(ctx: Context) -> dict[tuple[str, int], Divergence]:
    return {row.key: row for row in read_rows(ctx.work / ROWS, Divergence)}


def plain(models: Models) -> dict[tuple[str, int], torch.Tensor]:
    """log π − log π_ref of every token, row by row, without any of the stage's code."""
    tokenizer, found = load_tokenizer(models[1]), {}
    nets = [load_model(ref, dtype=torch.float32, trainable=False) for ref in models]
    for n, text in enumerate(TEXTS):
        messages = [Message(role="user", content=f"write {'pq'[n % 2]}")]
        ids, at = encode_example(tokenizer, messages, text)
        ids = ids[:-1] if n % 3 == 2 else ids  # cut off: no end of turn was drawn
        with torch.no_grad():
            logs = [net(torch.tensor([ids])).logits[0].double().log_softmax(-1) for net in nets]
        own, ref = (log[range(at - 1, len(ids) - 1), ids[at:]] for log in logs)
        found["pq"[n % 2], n // 2] = own - ref
    return found


@pytest.mark.parametrize("batch_tokens", [1, 300])
def test_equals_a_plain_computation(tmp_path: Path, models: Models, batch_tokens: int) -> None:
    ctx = context(tmp_path, models)
    stage(batch_tokens=batch_tokens).run(ctx)
    rows, wanted = measured(ctx), plain(models)
    assert rows.keys() == wanted.keys()  # the empty one ended by itself: its end of turn counts
    for key, ratios in wanted.items():
        assert rows[key].tokens == len(ratios)
        assert rows[key].kl == pytest.approx(float(ratios.sum()), rel=1e-3, abs=1e-4)
        assert rows[key].kl_per_token == pytest.approx(float(ratios.mean()), rel=1e-3, abs=1e-4)
        k3 = ((-ratios).exp() - 1 + ratios).mean()
        assert rows[key].k3 == pytest.approx(float(k3), rel=1e-3, abs=1e-5)
        assert rows[key].k3 > 0
    by_prompt = [[float(r.sum()) for k, r in wanted.items() if k[0] == p] for p in "pq"]
    kl = ctx.metrics["kl"]
    assert kl["value"] == pytest.approx(sum(sum(v) / len(v) for v in by_prompt) / 2, rel=1e-3, abs=1e-4)
    assert (kl["low"] <= kl["value"] <= kl["high"], kl["prompts"]) == (True, 2)
    assert max(abs(r.kl) for r in rows.values()) > 0.1  # the models do differ


def test_one_model_is_exactly_0_without_loading_it(
    tmp_path: Path, start: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("itercli.training.likelihood.frozen_model", lambda *_: pytest.fail("loaded"))
    same = start.model_copy(update={"version": "policy@1"})
    ctx = context(tmp_path, (same, start))
    stage().run(ctx)
    assert [m["value"] for m in ctx.metrics.values()] == [0.0, 0.0, 0.0]
    assert {r.tokens for r in measured(ctx).values()} == {14, 97, 1, 22, 90}


def test_resumes_with_the_same_numbers(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = context(tmp_path / "whole", models)
    stage(batch_tokens=150).run(whole)
    stop = threading.Event()
    cut = context(tmp_path / "cut", models, stop)
    append = RowJournal.append

    def append_and_stop(journal: RowJournal[Any], row: Any) -> None:
        append(journal, row)
        stop.set()

    monkeypatch.setattr(RowJournal, "append", append_and_stop)
    with pytest.raises(Interrupted):
        stage(batch_tokens=150).run(cut)
    cut.close()
    monkeypatch.undo()
    again = context(tmp_path / "cut", models)
    stage(batch_tokens=150).run(again)
    assert 0 < again.resumed_rows < len(TEXTS)
    assert (again.work / ROWS).read_bytes() == (whole.work / ROWS).read_bytes()
    assert again.metrics == whole.metrics


def test_completions_of_another_version_are_refused(tmp_path: Path, start: ModelRef) -> None:
    ctx = context(tmp_path, (start.model_copy(update={"version": "policy@2"}), start))
    with pytest.raises(StageError, match=r"drawn by policy@1, but the current version here is policy@2"):
        stage().run(ctx)


def test_in_a_loop_it_sees_both_versions(project: Project) -> None:
    kl = {"uses": "divergence", "of": "evaluate.sample", "role": "policy"}
    node = toy(project, loop__evaluate=EVALUATE | {"metrics": ["pass@1"]}, loop__kl=kl).nodes[
        "iteration-02/kl"
    ]
    assert {slot: use.label for slot, use in node.models.items()} == {
        "policy": "policy@2",
        "reference": "policy@0",
    }
    assert node.inputs["of"] == ["iteration-02/evaluate.sample"]


def test_k3_is_an_estimate_of_the_same_divergence() -> None:
    # Over all of a small vocabulary the two have one expectation, KL(π‖π_ref).
    own, ref = [0.7, 0.2, 0.1], [0.5, 0.1, 0.4]
    wanted = sum(p * math.log(p / q) for p, q in zip(own, ref, strict=True))
    drawn = Trajectory(
        prompt_id="p", index=0, seed=0, completion="x", finish="stop", tokens=1, policy="policy@1"
    )
    rows = [
        stage()._row(drawn, None, [0], [[-math.log(p)], [-math.log(q)]])
        for p, q in zip(own, ref, strict=True)
    ]
    assert sum(p * r.kl for p, r in zip(own, rows, strict=True)) == pytest.approx(wanted)
    assert sum(p * r.k3 for p, r in zip(own, rows, strict=True)) == pytest.approx(wanted)
    assert all(r.k3 > 0 for r in rows)

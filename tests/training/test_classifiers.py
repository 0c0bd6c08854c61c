"""Reward models and estimators learn, resume to the byte, and say what they can't do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from itercli.records import ModelRef
from itercli.stages.train import Train
from itercli.training.base import Interrupted, TrainingError
from itercli.training.classifier import classify, load_classifier
from itercli.training.classifier_inputs import reward_input
from itercli.training.classifiers import Estimator, Reward
from itercli.training.estimator import both_orders
from itercli.training.models import load_tokenizer
from tests.training.classifiers import LORA, preferences, tiny
from tests.training.tiny import file_bytes, tiny_job

METHODS = {"reward": Reward(), "estimator": Estimator()}


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelRef]:
    return {kind: tiny(kind, tmp_path_factory.mktemp("model") / kind) for kind in ("llama", "bert")}


def trained_ref(start: ModelRef, out: Path) -> ModelRef:
    if (out / "adapter").is_dir():
        return start.model_copy(update={"adapter": str(out / "adapter")})
    return start.model_copy(update={"base": str(out / "weights")})


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("reward", "llama", {"lr": 2e-3}),
        ("reward", "llama", LORA),
        ("reward", "bert", {"lr": 2e-3}),
        ("reward", "bert", LORA),
        ("estimator", "llama", LORA),
        ("estimator", "bert", {"lr": 2e-3}),
    ],
)
def test_learns_a_preference_that_holds_for_new_pairs(
    tmp_path: Path, refs: dict[str, ModelRef], name: str, kind: str, options: dict[str, Any]
) -> None:
    options = {"epochs": 12, "batch_size": 16, "micro_batch_size": 16} | options
    start, new = refs[kind], preferences(40, seed=1)
    job = tiny_job(tmp_path, start, preferences(96), **options)  # type: ignore[arg-type]
    METHODS[name].train(job)
    labels = 1 if name == "reward" else 2
    ref, tokenizer = trained_ref(start, job.out), load_tokenizer(start)
    model = load_classifier(ref, labels, dtype=torch.float32, trainable=False)
    if name == "reward":
        chosen, rejected = (
            classify(model, [reward_input(tokenizer, p.messages, getattr(p, a), 128).ids for p in new])
            for a in ("chosen", "rejected")
        )
        right = chosen > rejected
    else:
        inputs = [both_orders(tokenizer, p, 128) for p in new]
        first, second = (classify(model, [i[n].ids for i in inputs]) for n in (0, 1))
        right = torch.cat([first[:, 0] > first[:, 1], second[:, 1] > second[:, 0]])
    assert right.double().mean() > 0.9


@pytest.mark.parametrize("name", ["reward", "estimator"])
@pytest.mark.parametrize(("kind", "options"), [("llama", LORA), ("bert", {"lr": 2e-3})])
def test_stopped_and_resumed_is_byte_identical(
    tmp_path: Path, refs: dict[str, ModelRef], name: str, kind: str, options: dict[str, Any]
) -> None:
    """10 pairs in batches of 4: stopped inside the second epoch, with dropout on."""
    options = {"epochs": 2} | options
    method, pairs, start = METHODS[name], preferences(10), refs[kind]
    whole = tiny_job(tmp_path / "whole", start, pairs, **options)  # type: ignore[arg-type]
    result = method.train(whole)
    cut = tmp_path / "cut"
    with pytest.raises(Interrupted, match="step 4 of 6"):
        method.train(tiny_job(cut, start, pairs, stop_after=4, **options))  # type: ignore[arg-type]
    log: list[Any] = []
    again = tiny_job(cut, start, pairs, log=log, **options)  # type: ignore[arg-type]
    assert method.train(again) == result
    assert [done for done, _, _ in log] == [5, 6]
    assert file_bytes(again.out) == file_bytes(whole.out)


def first_loss(tmp: Path, ref: ModelRef, method: Reward | Estimator, **options: Any) -> dict[str, float]:
    log: list[Any] = []
    options = {"batch_size": 6, "max_steps": 1} | options
    method.train(tiny_job(tmp, ref, preferences(6), log=log, **options))  # type: ignore[arg-type]
    metrics: dict[str, float] = log[0][2]
    return metrics


@pytest.mark.parametrize(("margin", "center"), [(False, 0.0), (True, 0.0), (False, 0.5)])
def test_loss_is_that_of_bradley_and_terry(
    tmp_path: Path, refs: dict[str, ModelRef], margin: bool, center: float
) -> None:
    """The first step of full training without dropout starts from the model as it is loaded."""
    ref, pairs = refs["llama"], preferences(6)
    method = Reward(margin=margin, center=center)
    model = load_classifier(ref, 1, dtype=torch.float32, seed=7).eval()
    tokenizer = load_tokenizer(ref)
    losses = []
    for pair in pairs:
        r = [
            classify(model, [reward_input(tokenizer, pair.messages, a, 512).ids])[0, 0]
            for a in (pair.chosen, pair.rejected)
        ]
        lead = r[0] - r[1] - ((pair.margin or 0.0) if margin else 0.0)
        losses.append(float(torch.log1p(torch.exp(-lead)) + center * (r[0] + r[1]) ** 2))
    for size in (6, 4, 1):  # nor does it depend on how a step is cut
        metrics = first_loss(tmp_path / str(size), ref, method, micro_batch_size=size)
        assert metrics["loss"] == pytest.approx(sum(losses) / 6, rel=1e-5)


def test_margin_needs_rewards(tmp_path: Path, refs: dict[str, ModelRef]) -> None:
    bare = [p.model_copy(update={"rewards": None}) for p in preferences(4)]
    with pytest.raises(TrainingError, match=r"pair 0 of 'p0' has no rewards.*method\.margin"):
        Reward(margin=True).train(tiny_job(tmp_path, refs["llama"], bare))  # type: ignore[arg-type]


def test_without_dropout_the_seed_does_not_matter_after_the_head(
    tmp_path: Path, refs: dict[str, ModelRef]
) -> None:
    """`disable_dropout` reaches the model's own dropout: a BERT's first loss is that of evaluation."""
    ref, pairs = refs["bert"], preferences(6)
    model = load_classifier(ref, 1, dtype=torch.float32, seed=7).eval()
    tokenizer = load_tokenizer(ref)
    chosen, rejected = (
        classify(model, [reward_input(tokenizer, p.messages, getattr(p, a), 128).ids for p in pairs])
        for a in ("chosen", "rejected")
    )
    plain = float(torch.log1p(torch.exp(rejected - chosen)).mean())
    off = first_loss(tmp_path / "off", ref, Reward(disable_dropout=True))["loss"]
    on = first_loss(tmp_path / "on", ref, Reward())["loss"]
    assert off == pytest.approx(plain, rel=1e-5)
    assert on != pytest.approx(plain, rel=1e-5)


def test_too_long_inputs_are_cut_and_counted_or_dropped(tmp_path: Path, refs: dict[str, ModelRef]) -> None:
    pairs = preferences(8)
    long = pairs[3].model_copy(
        update={"messages": [pairs[3].messages[0].model_copy(update={"content": "w" * 300})]}
    )
    pairs[3] = long
    for name, method in METHODS.items():
        job = tiny_job(tmp_path / name, refs["llama"], pairs, max_length=120, **LORA)  # type: ignore[arg-type]
        counts = method.train(job).counts
        assert counts["truncated"] == 1
        assert counts["tokens_cut"] > 2 * 150
        dropping = method.model_copy(update={"on_too_long": "drop"})
        job = tiny_job(tmp_path / f"{name}-drop", refs["llama"], pairs, max_length=120, **LORA)  # type: ignore[arg-type]
        assert dropping.train(job).counts == {"examples": 8, "dropped_too_long": 1}


def test_estimator_without_dropout_is_refused(tmp_path: Path, refs: dict[str, ModelRef]) -> None:
    def problems(**training: Any) -> list[tuple[str, ...]]:
        return Train.model_validate(
            {
                "role": "estimator",
                "examples": "pairs",
                "method": "estimator",
                "init_from": "base",
                "training": training,
            }
        ).check()

    (problem,) = problems(tuning="lora")
    assert problem[0] == "training.lora.dropout"
    assert problems(tuning="lora", lora={"dropout": 0.1}) == []
    assert problems(tuning="full") == []  # the plan can't know: a BERT has dropout, a Llama has not
    job = tiny_job(tmp_path, refs["llama"], preferences(4))  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="no dropout of its own"):
        Estimator().train(job)


def test_a_model_without_head_does_not_judge(refs: dict[str, ModelRef]) -> None:
    with pytest.raises(ValueError, match=r"no trained head.*method reward"):
        load_classifier(refs["llama"], 1, dtype=torch.float32, trainable=False)


def test_a_trained_adapter_goes_on(tmp_path: Path, refs: dict[str, ModelRef]) -> None:
    """The next training starts from head and adapter, or from both merged."""
    start, pairs = refs["llama"], preferences(32)
    job = tiny_job(tmp_path / "1", start, pairs, epochs=8, **LORA)  # type: ignore[arg-type]
    end = Reward().train(job).metrics["loss"]
    ref = trained_ref(start, job.out)
    for name, options in (("lora", LORA), ("full", {"lr": 1e-5})):
        log: list[Any] = []
        again = tiny_job(tmp_path / name, ref, pairs, max_steps=1, log=log, **options)  # type: ignore[arg-type]
        Reward().train(again)
        assert log[0][2]["loss"] < 2 * end + 0.1 < 0.69

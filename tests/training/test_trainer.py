"""Gradients, bookkeeping and saved models of the trainer."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from transformers import Trainer

from itercli.training.arguments import training_arguments
from itercli.training.base import Interrupted, LoraSpec, TrainingError, TrainingSpec
from itercli.training.checkpoints import Checkpoints
from itercli.training.collate import encode_groups
from itercli.training.hf import StepTrainer
from itercli.training.losses import RankingObjective, SftObjective
from itercli.training.methods import Ranking, Sft
from itercli.training.models import load_model, load_tokenizer
from tests.training.tiny import (
    example,
    file_bytes,
    tiny_job,
    tiny_llama,
    tiny_ref,
    tiny_tokenizer,
)

LORA = {"tuning": "lora", "lora": {"r": 4, "alpha": 8}}


@pytest.fixture(scope="module")
def ref(tmp_path_factory):
    return tiny_ref(tmp_path_factory.mktemp("model") / "base")


def ranking_objective(**options):
    defaults = {
        "compare_weight": 2.0,
        "mle_weight": 1.0,
        "score_margin": 0.2,
        "prob_margin": 0.3,
        "length_norm": "response",
        "combine": "sum",
    }
    return RankingObjective(**(defaults | options))


def step_gradient(tmp_path, examples, objective, method, *, micro, split=False, dtype=torch.float32):
    """Loss, metrics and gradient of one optimizer step over `examples`."""
    groups, _ = encode_groups(examples, tiny_tokenizer(), max_length=500, needed=method.needed)
    model = tiny_llama().to(dtype)
    trainer = StepTrainer(
        model,
        training_arguments(TrainingSpec(), steps=1, seed=0, folder=tmp_path),
        [groups],
        objective,
        micro_batch_size=micro,
        split=split,
        checkpoints=Checkpoints(tmp_path, "job"),
    )
    loss = trainer.training_step(model, groups)
    return loss.item(), trainer._step_metrics, {n: p.grad for n, p in model.named_parameters()}


def test_optimizer_is_the_trainer_s_of_that_name(tmp_path) -> None:
    made = {}
    for name in ("adamw", "rmsprop", "adafactor", "adagrad", "sgd"):
        spec = TrainingSpec(optimizer=name)
        arguments = training_arguments(spec, steps=1, seed=0, folder=tmp_path)
        made[name] = type(Trainer(tiny_llama(), arguments).create_optimizer()).__name__.lower()
    assert made == {name: name for name in made}


def assert_same_gradient(one, other, rtol, atol):
    assert one.keys() == other.keys()
    assert any(g.abs().max() > 1e-3 for g in one.values())
    for name, grad in one.items():
        assert torch.allclose(grad, other[name], rtol=rtol, atol=atol), name


@pytest.mark.parametrize(
    ("objective", "method"),
    [(SftObjective(), Sft()), (ranking_objective(), Ranking())],
    ids=["sft", "ranking"],
)
def test_micro_batches_change_neither_loss_nor_gradient(tmp_path, objective, method):
    examples = [example(i) for i in range(8)]
    loss, metrics, grad = step_gradient(tmp_path, examples, objective, method, micro=8)
    for micro in (1, 2, 3, 4):
        other_loss, other_metrics, other = step_gradient(tmp_path, examples, objective, method, micro=micro)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert other_metrics == pytest.approx(metrics, rel=1e-5)
        assert_same_gradient(grad, other, rtol=1e-3, atol=1e-6)


def test_sft_loss_is_that_of_transformers(tmp_path):
    examples = [example(i) for i in range(3)]
    loss, _, grad = step_gradient(tmp_path, examples, SftObjective(), Sft(), micro=2)
    groups, _ = encode_groups(examples, tiny_tokenizer(), max_length=500, needed=Sft().needed)
    length = max(g.length for g in groups)
    ids = torch.zeros(3, length, dtype=torch.long)
    labels = torch.full((3, length), -100)
    mask = torch.zeros(3, length, dtype=torch.long)
    for i, group in enumerate(groups):
        row = group.rows[0]
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, : len(row.ids)] = 1
        labels[i, row.prompt_len : len(row.ids)] = torch.tensor(row.ids[row.prompt_len :])
    model = tiny_llama()
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert_same_gradient(grad, {n: p.grad for n, p in model.named_parameters()}, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("length_norm", ["response", "sequence"])
@pytest.mark.parametrize("combine", ["sum", "product"])
def test_split_gradient_is_the_joint_gradient(tmp_path, combine, length_norm):
    examples = [
        example(0),
        example(1, target=None),
        example(2, scores=[1.0, 0.1]),
        example(3, scores=[1.0, 1.0]),
    ]
    objective = ranking_objective(combine=combine, length_norm=length_norm)
    joint, split = (
        step_gradient(tmp_path, examples, objective, Ranking(), micro=4, split=s, dtype=torch.float64)
        for s in (False, True)
    )
    assert split[0] == pytest.approx(joint[0], rel=1e-6)
    assert split[1] == pytest.approx(joint[1], rel=1e-9)
    assert_same_gradient(joint[2], split[2], rtol=1e-9, atol=1e-12)


def test_split_gradient_sees_the_same_dropout_twice(tmp_path, ref):
    """With dropout the loss of pass one must be the one that pass two differentiates."""
    logs = []
    job = tiny_job(
        tmp_path, ref, [example(i) for i in range(4)], log=logs, tuning="lora", lora={"r": 4, "dropout": 0.3}
    )
    Ranking(gradient="split").train(job)
    again = []
    job = tiny_job(
        tmp_path / "b", ref, [example(i) for i in range(4)], log=again, tuning="lora",
        lora={"r": 4, "dropout": 0.3}, micro_batch_size=4,
    )  # fmt: skip
    Ranking(gradient="split").train(job)
    assert [m["loss"] for _, _, m in logs] == [m["loss"] for _, _, m in again]


def test_reports_every_step_once_with_the_last_smaller_one(tmp_path, ref):
    logs = []
    result = Ranking().train(tiny_job(tmp_path, ref, [example(i) for i in range(10)], log=logs, epochs=2))
    assert [(done, total) for done, total, _ in logs] == [(i, 6) for i in range(1, 7)]
    assert {"loss", "grad_norm", "lr", "tokens", "tokens_per_second", "ranking_loss", "target_nll"} <= set(
        logs[0][2]
    )
    assert logs[0][2]["lr"] == pytest.approx(1e-3)
    assert result.steps == 6
    assert result.counts["groups"] == 10
    assert result.metrics["loss"] < result.metrics["loss_first"]


def test_schedule_and_max_steps(tmp_path, ref):
    logs = []
    job = tiny_job(
        tmp_path,
        ref,
        [example(i) for i in range(4)],
        log=logs,
        max_steps=5,
        schedule="constant",
        warmup_ratio=0.4,
    )
    assert Sft().train(job).steps == 5
    assert [m["lr"] for _, _, m in logs] == pytest.approx([0, 5e-4, 1e-3, 1e-3, 1e-3])


@pytest.mark.parametrize("tied", [True, False])
def test_full_tuning_saves_a_loadable_model(tmp_path, tied):
    start = tiny_ref(tmp_path / "base", tied=tied)
    job = tiny_job(tmp_path, start, [example(i) for i in range(4)])
    Sft().train(job)
    new = dataclasses.replace(job).start.model_copy(update={"base": str(job.out / "weights")})
    model, tokenizer = load_model(new, dtype=torch.float32), load_tokenizer(new)
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert (embeddings.data_ptr() == head.data_ptr()) is tied
    config = json.loads((job.out / "weights" / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert config["use_cache"] is True
    assert tokenizer.chat_template == tiny_tokenizer().chat_template


def test_bfloat16_base_is_trained_and_saved_in_float32(tmp_path):
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "base")
    start = tiny_ref(tmp_path / "other").model_copy(update={"base": str(tmp_path / "base")})
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    job = tiny_job(tmp_path, start, [example(0)], lr=1e-6)
    Sft().train(job)
    model = load_model(start.model_copy(update={"base": str(job.out / "weights")}), dtype=torch.float32)
    moved = [p for n, p in model.named_parameters() if not torch.equal(p, p.bfloat16().float())]
    assert moved


def test_adapter_is_continued_and_merged(tmp_path, ref):
    first = tiny_job(tmp_path / "1", ref, [example(i) for i in range(4)], **LORA, epochs=3)
    Sft().train(first)
    grown = ref.model_copy(update={"adapter": str(first.out / "adapter"), "digest": "grown"})
    logs, merged_logs, fresh_logs = [], [], []
    second = tiny_job(tmp_path / "2", grown, [example(i) for i in range(4)], **LORA, log=logs)
    Sft().train(second)
    Sft().train(tiny_job(tmp_path / "3", grown, [example(i) for i in range(4)], log=merged_logs))
    Sft().train(tiny_job(tmp_path / "4", ref, [example(i) for i in range(4)], log=fresh_logs))
    # All three see the same first batch: a continued adapter and its merged weights are one model.
    assert logs[0][2]["loss"] == pytest.approx(merged_logs[0][2]["loss"], rel=1e-4)
    assert logs[0][2]["loss"] < fresh_logs[0][2]["loss"] - 1e-3
    config = json.loads((second.out / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert sorted(p.name for p in (second.out / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_adapter_of_another_shape_is_refused(tmp_path, ref):
    job = tiny_job(tmp_path, ref, [example(0)], **LORA)
    Sft().train(job)
    grown = ref.model_copy(update={"adapter": str(job.out / "adapter")})
    with pytest.raises(ValueError, match="tuning: full"):
        load_model(grown, dtype=torch.float32, lora=LoraSpec(r=8))


def test_adapters_in_the_last_layers_only(ref):
    def adapted(**options):
        model = load_model(ref, dtype=torch.float32, lora=LoraSpec(r=2, **options))
        return {
            n.partition(".lora_")[0].partition("layers.")[2]
            for n, p in model.named_parameters()
            if p.requires_grad
        }

    every, last = adapted(), adapted(last_layers=1)
    highest = max(name.partition(".")[0] for name in every)
    assert last == {name for name in every if name.startswith(f"{highest}.")} < every
    assert adapted(last_layers=1, target_modules=("q_proj",)) == {f"{highest}.self_attn.q_proj"}
    assert adapted(last_layers=99) == every
    with pytest.raises(ValidationError, match="last_layers goes with"):
        LoraSpec(last_layers=1, target_modules=".*q_proj")


def test_frozen_model(ref):
    model = load_model(ref, dtype=torch.float32, trainable=False)
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training


def test_nothing_to_train_on(tmp_path, ref):
    with pytest.raises(TrainingError, match="2 too_long"):
        Sft().train(tiny_job(tmp_path, ref, [example(0), example(1)], max_length=8))
    with pytest.raises(TrainingError, match="1 no_target"):
        Sft().train(tiny_job(tmp_path, ref, [example(0, target=None)]))
    with pytest.raises(TrainingError, match="no examples"):
        Sft().train(tiny_job(tmp_path, ref, []))


def test_training_that_changes_nothing_is_an_error(tmp_path, ref):
    with pytest.raises(TrainingError, match="left every weight"):
        Sft().train(tiny_job(tmp_path, ref, [example(0)], lr=1e-30))
    assert not (tmp_path / "out").exists()


def test_loss_that_is_not_finite_is_an_error(tmp_path, ref):
    model = tiny_llama()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "bad")
    tiny_tokenizer().save_pretrained(tmp_path / "bad")
    with pytest.raises(TrainingError, match="loss is nan at step 1"):
        Sft().train(tiny_job(tmp_path, ref.model_copy(update={"base": str(tmp_path / "bad")}), [example(0)]))


def test_stopping_before_the_first_step(tmp_path, ref):
    with pytest.raises(Interrupted):
        Sft().train(tiny_job(tmp_path, ref, [example(0)], stop_after=0))
    assert file_bytes(tmp_path) == {}


def test_gradient_checkpointing_gives_the_same_model(tmp_path, ref):
    jobs = [
        tiny_job(tmp_path / str(on), ref, [example(i) for i in range(4)], gradient_checkpointing=on)
        for on in (False, True)
    ]
    for job in jobs:
        Sft().train(job)
    assert file_bytes(jobs[0].out) == file_bytes(jobs[1].out)


def test_methods_import_nothing_heavy():
    code = (
        "import sys, itercli.training.methods\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Pairs, jobs and trainers for the tests of DPO; TRL's own trainer among them."""

import dataclasses
from functools import partial

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from itercli.records import Message, PreferencePair
from itercli.training.arguments import training_arguments
from itercli.training.checkpoints import Checkpoints
from itercli.training.dpo import PairTrainer
from itercli.training.models import load_model, load_tokenizer
from itercli.training.pairs import encode_pairs
from itercli.training.preference import Dpo
from itercli.training.reference import with_reference
from tests.training.tiny import TEXTS, tiny_job

LORA = {"tuning": "lora", "lora": {"r": 4, "alpha": 8}}
DROPOUT = {"tuning": "lora", "lora": {"r": 4, "alpha": 8, "dropout": 0.1}}


def pair(i, **fields):
    """Pair number `i`, with lengths of its own."""
    return PreferencePair(
        prompt_id=f"p{i}",
        messages=[Message(role="user", content=f"task {i} " + "x" * (i % 7))],
        chosen=TEXTS[i % len(TEXTS)] + " ok" * (i % 3),
        rejected=TEXTS[(i + 1) % len(TEXTS)] + " no" * (i % 4),
        **fields,
    )


PAIRS = [pair(i) for i in range(10)]


def dpo_job(tmp, start, pairs, *, against=None, **options):
    return dataclasses.replace(tiny_job(tmp, start, pairs, **options), reference=against or start)


def encoded(job, method=None):
    method = method or Dpo()
    return encode_pairs(
        job.examples,
        load_tokenizer(job.start),
        max_length=job.training.max_length,
        doubt=method.doubt,
        weight=method.weight,
    )[0]


def step_gradient(tmp_path, base, pairs, method, *, micro=2):
    """Loss, metrics and gradient of one step, all weights trained, the policy off the reference."""
    job = dpo_job(tmp_path, base, pairs, micro_batch_size=micro)
    model = load_model(base, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.mul_(1.3)
    steps = [with_reference(job, encoded(job, method))]
    config = partial(
        DPOConfig,
        loss_type=[method.loss],
        beta=method.beta,
        label_smoothing=method.label_smoothing,
        disable_dropout=True,
        max_length=None,
        precompute_ref_log_probs=True,
    )
    trainer = PairTrainer(
        model,
        training_arguments(job.training, steps=1, seed=0, folder=tmp_path, kind=config),
        steps,
        micro_batch_size=micro,
        checkpoints=Checkpoints(tmp_path, "job"),
        nll_weight=method.nll_weight,
        processing_class=load_tokenizer(base),
    )
    loss = trainer.training_step(model, steps[0])
    return loss.item(), trainer._step_metrics, {n: p.grad for n, p in model.named_parameters()}


class Stock(DPOTrainer):
    """TRL's own trainer: takes our token ids and notes the loss of each micro-batch."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss


class Given(Stock):
    """With our log-probabilities of the reference."""

    def _precompute_ref_logps(self, dataset, *args, **kwargs):
        return dataset


def stock_trainer(kind, model, pairs, base, folder, *, steps, micro, accumulate, **config):
    args = DPOConfig(
        output_dir=str(folder),
        max_length=None,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulate,
        train_sampling_strategy="sequential",
        max_steps=steps,
        learning_rate=1e-3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        seed=7,
        report_to=[],
        disable_tqdm=True,
        **({"save_strategy": "no"} | config),
    )
    data = Dataset.from_list([p.columns() for p in pairs])
    return kind(model, args=args, train_dataset=data, processing_class=load_tokenizer(base))

"""Loading models for training and saving what came out, the same bytes each time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itercli.models.load import load_base, load_tokenizer, save_model
from itercli.models.merging import merge
from itercli.records import ModelRef
from itercli.resources import settle_dtype, this_machine
from itercli.training.base import LoraSpec

__all__ = ["compute_dtype", "load_model", "load_tokenizer", "save_adapter", "save_weights"]


def compute_dtype(dtype: str) -> torch.dtype:
    """The dtype of `TrainingSpec.dtype`: auto is bfloat16 on CUDA and float32 elsewhere."""
    settled: torch.dtype = getattr(torch, settle_dtype(dtype, this_machine()))
    return settled


def load_model(
    ref: ModelRef, *, dtype: torch.dtype, lora: LoraSpec | None = None, trainable: bool = True, seed: int = 0
) -> Any:
    """Load a causal language model, on the CPU.

    Args:
        ref: Base weights and perhaps an adapter.
        dtype: Of the base weights. Weights to be trained should be float32 (bf16 updates get
            lost in rounding); adapters always are.
        lora: Train an adapter of this shape: the one of `ref` if it has one, else a new one.
            None: the adapter of `ref` is merged and all weights are the model's own.
        trainable: False freezes everything.
        seed: Draws the weights of a new adapter.

    Raises:
        ValueError: `ref` carries an adapter of another shape than `lora`.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # a worker's output is a log file
    model = load_base(ref, dtype)
    if lora is None:
        if ref.adapter is not None:
            from peft import PeftModel

            model, _ = merge(PeftModel.from_pretrained(model, ref.adapter))
    else:
        model = with_adapter(model, ref, lora, seed)
    if not trainable:
        model.requires_grad_(False)
        model.eval()
    elif lora is None:
        model.requires_grad_(True)
    return model


def with_adapter(model: Any, ref: ModelRef, lora: LoraSpec, seed: int, task: str = "CAUSAL_LM") -> Any:
    """The adapter of `ref` on `model`, or a new one, to be trained.

    Args:
        task: PEFT's task type; SEQ_CLS trains and saves a classifier's head, too.

    Raises:
        ValueError: `ref` carries an adapter of another shape than `lora`.
    """
    from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model

    if ref.adapter is not None:
        config = PeftConfig.from_pretrained(ref.adapter)
        found = (getattr(config, "r", None), getattr(config, "lora_alpha", None))
        if found != (lora.r, lora.alpha):
            raise ValueError(
                f"{ref.version} carries an adapter with r, alpha = {found[0]}, {found[1]}, but training.lora "
                f"asks for {lora.r}, {lora.alpha}. Set training.lora to the adapter's values, or "
                "tuning: full, which merges it."
            )
        config.lora_dropout = lora.dropout
        return PeftModel.from_pretrained(model, ref.adapter, is_trainable=True, config=config)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        task_type=task,
    )
    torch.manual_seed(seed)
    return get_peft_model(model, config)


def _targets(model: Any, lora: LoraSpec) -> str | list[str]:
    """What PEFT is to adapt; with `last_layers`, each module by its full name."""
    targets = lora.target_modules
    if lora.last_layers is None:
        return targets if isinstance(targets, str) else list(targets)
    first = model.config.get_text_config().num_hidden_layers - lora.last_layers
    linear = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    layers = ((name, re.search(r"\.(\d+)\.", name)) for name in linear)
    return [
        name
        for name, layer in layers
        if layer and int(layer[1]) >= first
        if isinstance(targets, str) or name.rpartition(".")[2] in targets
    ]


def save_adapter(model: Any, folder: Path) -> None:
    """Save the adapter of a PEFT model, float32.

    PEFT lists target modules in the order of a set, which differs between processes, and
    adds a model card; both would make equal adapters differ in bytes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    for key in ("target_modules", "exclude_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def save_weights(model: Any, start: ModelRef, folder: Path) -> None:
    """Save all weights, with the tokenizer and the generation config of the model they came from.

    Weights keep the dtype they were trained in, float32, even if the base was stored in
    bfloat16: small updates of one iteration would be rounded away before the next.
    """
    shutil.rmtree(folder, ignore_errors=True)
    save_model(model, folder, Path(start.base))


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: trainable parameters (tied ones once) and saved buffers."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tensors = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return tensors | {name: t for name, t in model.state_dict().items() if name not in parameters}


def checksums(model: nn.Module) -> dict[str, tuple[float, float]]:
    """A cheap fingerprint of the trained tensors, to see whether they moved."""
    with torch.no_grad():
        return {
            name: (
                t.sum(dtype=torch.float64).item(),
                torch.linalg.vector_norm(t, ord=1, dtype=torch.float64).item(),
            )
            for name, t in trained_tensors(model).items()
        }

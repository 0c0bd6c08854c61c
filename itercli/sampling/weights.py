"""Switching policies without loading everything anew: weights in place, adapters on and off."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from itercli.models.load import load_base, load_config, save_model
from itercli.models.merging import Untied, adapted_layers, merge
from itercli.records import ModelRef
from itercli.sampling.base import SamplerError

# Where a model came from and how it runs; not what it is.
_NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}


def check_folder(ref: ModelRef) -> None:
    """Refuse a reference whose files are not there.

    Raises:
        SamplerError: No config in the base, or no adapter config in the adapter.
    """
    if not (Path(ref.base) / "config.json").is_file():
        raise SamplerError(f"{ref.version}: no model in {ref.base} (config.json is missing)")
    if ref.adapter is not None and not (Path(ref.adapter) / "adapter_config.json").is_file():
        raise SamplerError(f"{ref.version}: no adapter in {ref.adapter} (adapter_config.json is missing)")


def architecture(folder: str) -> dict[str, Any]:
    """What two models must share so that one's weights fit into the other."""
    config = json.loads((Path(folder) / "config.json").read_text())
    return {key: value for key, value in config.items() if key not in _NOT_ARCHITECTURE}


def weight_files(folder: str) -> list[Path]:
    """Safetensors files of a model or adapter folder, sorted; empty if it has another format."""
    return sorted(Path(folder).glob("*.safetensors"))


def load_in_place(model: torch.nn.Module, folder: str) -> bool:
    """Copy a folder's weights into a model of the same architecture.

    Returns:
        False, with the model untouched, if names or shapes do not match one to one (a
        checkpoint that transformers renames or fuses while loading): load it anew then.
    """
    files = weight_files(folder)
    state = model.state_dict()
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    shapes: dict[str, list[int]] = {}
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                shapes[name] = tensors.get_slice(name).get_shape()
    if set(shapes) - set(state) or (set(state) - set(shapes)) - tied:
        return False
    if any(list(state[name].shape) != shape for name, shape in shapes.items()):
        return False
    with torch.no_grad():
        for path in files:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    state[name].copy_(tensors.get_tensor(name))
    return True


def is_plain_lora(adapter: str) -> bool:
    """Whether an adapter changes nothing but the weights of the layers it targets."""
    config = json.loads((Path(adapter) / "adapter_config.json").read_text())
    extras = ("modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters")
    return (
        config.get("peft_type") == "LORA"
        and config.get("bias", "none") == "none"
        and not any(config.get(key) for key in extras)
    )


class Adapters:
    """Puts one LoRA adapter at a time on a base model and takes it off exactly.

    Args:
        merge: Add the adapter into the weights (the touched ones are kept aside) instead of
            running it beside them.
    """

    def __init__(self, merge: bool) -> None:
        self.merge = merge
        self._kept: dict[str, torch.Tensor] = {}
        self._attached: Any = None
        self._untied = Untied()
        # Set when the base can't be restored from what was kept.
        self.base_lost = False

    def apply(self, model: Any, adapter: str) -> Any:
        """The model with the adapter on.

        Raises:
            SamplerError: The adapter does not fit the base.
        """
        from peft import PeftModel

        plain = is_plain_lora(adapter)
        try:
            attached = PeftModel.from_pretrained(model, adapter, is_trainable=False)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            self.base_lost = True
            raise SamplerError(f"adapter {adapter} does not fit its base model: {error}") from error
        attached.eval()
        if not self.merge:
            self._attached = attached
            self.base_lost = not plain
            return attached
        if plain:
            self._kept = {
                name: layer.weight.detach().clone() for name, layer in adapted_layers(attached).items()
            }
        self.base_lost = not plain
        merged, self._untied = merge(attached)
        merged.eval()
        return merged

    def remove(self, model: Any) -> Any:
        """The base model as it was before `apply`."""
        if self._attached is not None:
            model = self._attached.unload()
            self._attached = None
        self._untied.restore()
        with torch.no_grad():
            for name, weight in self._kept.items():
                model.get_submodule(name).weight.copy_(weight)
        self._kept.clear()
        # PEFT leaves its config on the base and warns of a second adapter otherwise.
        if hasattr(model, "peft_config"):
            del model.peft_config
        return model


def save_merged(ref: ModelRef, folder: Path, dtype: torch.dtype | None = None) -> bool:
    """Write base plus adapter as a full model; the sum is formed in float32.

    Args:
        dtype: Dtype of the files; None keeps the base's.

    Returns:
        Whether the base's embeddings are tied and the written model's are not (see `merging`).
    """
    keep = dtype or getattr(load_config(ref), "dtype", None) or torch.float32
    model = load_base(ref, torch.float32)
    tied = _tied(model.config)
    if ref.adapter is not None:
        model = Adapters(merge=True).apply(model, ref.adapter)
    untied = tied and not _tied(model.config)
    save_model(model.to(keep), folder, Path(ref.base))
    del model
    gc.collect()
    return untied


def _tied(config: Any) -> bool:
    return bool(getattr(config, "tie_word_embeddings", False))


def weights_differ(old: ModelRef, new: ModelRef) -> bool:
    """Whether the files of two models say that their weights are different.

    Two digests can stand for equal weights: an adapter whose B matrices are still zero, or a
    training that took no step. Only then may a probe find no difference.
    """
    if _file_hash(old.base) != _file_hash(new.base):
        return True
    return _adapter_hash(old.adapter) != _adapter_hash(new.adapter)


def _adapter_hash(adapter: str | None) -> str:
    if adapter is None or all(not bool(b.any()) for b in _lora_b(adapter)):
        return ""
    return _file_hash(adapter)


def _lora_b(adapter: str) -> Iterator[torch.Tensor]:
    """B matrices of an adapter; anything that is not LoRA's A counts as one."""
    files = weight_files(adapter)
    if not files:
        yield torch.ones(1)
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if "lora_A" not in name and "lora_embedding_A" not in name:
                    yield tensors.get_tensor(name)


def _file_hash(folder: str) -> str:
    digest = hashlib.sha256()
    for path in weight_files(folder) or sorted(Path(folder).glob("*.bin")):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()

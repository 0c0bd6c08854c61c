"""Merging of LoRA adapters that keeps what was trained, also where two layers share one weight.

The output layer of many models is their embedding (`tie_word_embeddings`). An adapter on one of the
two changes that layer alone while it stands beside the weights; added to the shared weight it would
change both. So a shared weight that an adapter adapts is copied first, and the model's config says
that the two are no longer tied.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from itercli.models.load import load_config
from itercli.records import ModelRef


@dataclass
class Untied:
    """What `untie` changed, to be put back by `restore`.

    Attributes:
        shared: Layers by the weight that they shared with others.
        configs: Configs that said the embeddings are tied.
    """

    shared: list[tuple[nn.Module, nn.Parameter]] = field(default_factory=list)
    configs: list[Any] = field(default_factory=list)

    def restore(self) -> None:
        """Share the weights again, for another adapter or none."""
        for layer, weight in self.shared:
            layer.weight = weight
        for config in self.configs:
            config.tie_word_embeddings = True
        self.shared.clear()
        self.configs.clear()


def adapted_layers(model: Any) -> dict[str, Any]:
    """The base layers that a PEFT model's LoRA adapts, by their names in the plain model."""
    from peft.tuners.lora import LoraLayer

    return {
        name.removeprefix("base_model.model."): module.get_base_layer()
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def untie(model: Any) -> Untied:
    """Give each adapted layer of a PEFT model a weight of its own; nothing where none is shared."""
    done = Untied()
    holders: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    for layer in adapted_layers(model).values():
        weight: Any = getattr(layer, "weight", None)  # a layer of experts has several, of other names
        if holders.get(id(weight), 0) < 2:
            continue
        holders[id(weight)] -= 1
        with torch.no_grad():
            layer.weight = nn.Parameter(weight.clone(), requires_grad=weight.requires_grad)
        done.shared.append((layer, weight))
    if done.shared:
        config = model.get_base_model().config
        for one in {id(c): c for c in (config, config.get_text_config())}.values():
            if getattr(one, "tie_word_embeddings", False):
                one.tie_word_embeddings = False
                done.configs.append(one)
    return done


def adapts_tied(ref: ModelRef) -> bool:
    """Whether a model's adapter changes an embedding that is the output layer as well, as its files say.

    Embeddings and output layers stand outside of the numbered blocks, whatever they are called.
    """
    if ref.adapter is None:
        return False
    config = load_config(ref)
    if not any(getattr(c, "tie_word_embeddings", False) for c in (config, config.get_text_config())):
        return False
    for path in sorted(Path(ref.adapter).glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            if any(not any(map(str.isdigit, name.split("."))) for name in tensors.keys()):  # noqa: SIM118
                return True
    return False


def merge(model: Any) -> tuple[Any, Untied]:
    """The plain model with the adapters of a PEFT model added to its weights.

    Returns:
        The model, and what was untied for it.
    """
    done = untie(model)
    with warnings.catch_warnings():
        # PEFT goes by names and warns of what `untie` has seen to.
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        return model.merge_and_unload(), done

"""Sizes of models, without loading them: from their files, or as published."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True, slots=True)
class Size:
    """What a model's memory depends on.

    Attributes:
        parameters: Number of weights, a shared one once.
        layers, hidden, intermediate, vocabulary: Of its config.
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


# Models of the presets, from their cards and configs: for a plan before they are fetched.
_LLAMA_3 = Size(8_030_261_248, 32, 4096, 14336, 128256)
_QWEN_2 = Size(7_615_616_512, 28, 3584, 18944, 152064)
PUBLISHED = {
    "alignment-handbook/zephyr-7b-sft-full": Size(7_241_732_096, 32, 4096, 14336, 32000),
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_3,
    "meta-llama/Meta-Llama-3.1-8B-Instruct": _LLAMA_3,
    "RLHFlow/LLaMA3-SFT": _LLAMA_3,
    "sfairXC/FsfairX-LLaMA3-RM-v0.1": _LLAMA_3,
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": _LLAMA_3,
    "Qwen/Qwen2-7B-Instruct": _QWEN_2,
    "Qwen/Qwen2.5-7B-Instruct": _QWEN_2,
    "deepseek-ai/deepseek-coder-6.7b-instruct": Size(6_740_512_768, 32, 4096, 11008, 32256),
}


def model_size(name: str, folder: Path | None) -> Size | None:
    """The size of a model; None if it can't be told.

    Args:
        name: As a recipe names it.
        folder: Where it lies; None if it is not here.
    """
    return PUBLISHED.get(name) if folder is None else folder_size(folder)


@cache
def folder_size(folder: Path) -> Size | None:
    """From the headers of its weights and its config; None if they can't be read."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        config = {**config, **(config.get("text_config") or {})}
        hidden = int(_first(config, "hidden_size", "n_embd", "d_model"))
        size = {
            "layers": int(_first(config, "num_hidden_layers", "n_layer", "num_layers")),
            "hidden": hidden,
            "intermediate": int(config.get("intermediate_size") or config.get("n_inner") or 4 * hidden),
            "vocabulary": int(config["vocab_size"]),
        }
        files = sorted(folder.glob("*.safetensors"))
        parameters = sum(_weights(path) for path in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None
    return Size(parameters, **size) if parameters else None


def _first(config: dict[str, Any], *names: str) -> Any:
    return next(config[name] for name in names if config.get(name)) if any(map(config.get, names)) else None


def _weights(path: Path) -> int:
    """Number of weights in a safetensors file, by its header: its length (8 bytes), then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > HEADER:
            raise ValueError(f"{path}: not a safetensors file")
        header = json.loads(file.read(length))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")

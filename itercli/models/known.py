"""The models that itercli knows by a short name, and where they live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

State = Literal["shipped", "pulled", "available", "missing"]

TINY_RTL = Path(__file__).parent / "tiny_rtl"
TINY_TEXTCRAFT = Path(__file__).parent / "tiny_textcraft"


class KnownModel(BaseModel):
    """A model with a short name.

    Attributes:
        size: Bytes on disk, or of what a pull leaves behind.
        state: "shipped" with the package, "pulled" to the cache, "available" to pull,
            "missing": should be in the package but is not (an incomplete installation).
        path: Where the folder is, or will be after a pull.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    what: str
    size: int
    licence: str
    state: State
    path: Path


def cache_root() -> Path:
    """The user's cache folder: $ITER_CACHE, else $XDG_CACHE_HOME/itercli, else ~/.cache/itercli."""
    own = os.environ.get("ITER_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itercli"


def models_dir() -> Path:
    """Where pulled models are kept."""
    return cache_root() / "models"


def is_model_folder(path: Path) -> bool:
    """Whether `path` looks like a saved transformers model."""
    return (path / "config.json").is_file()


def folder_size(path: Path) -> int:
    """Bytes of the files directly in `path`; 0 if there is no such folder."""
    if not path.is_dir():
        return 0
    return sum(f.stat().st_size for f in path.iterdir() if f.is_file())


def known() -> list[KnownModel]:
    """All models with a short name, with their state on this machine."""
    smol, minilm = models_dir() / "smollm2-135m", models_dir() / "minilm-l6"
    pulled, embeds = is_model_folder(smol), is_model_folder(minilm)
    return [
        KnownModel(
            name="tiny-rtl",
            what="Llama of 2M parameters, trained from scratch on small Verilog tasks",
            size=folder_size(TINY_RTL),
            licence="Apache-2.0",
            state="shipped" if is_model_folder(TINY_RTL) else "missing",
            path=TINY_RTL,
        ),
        KnownModel(
            name="tiny-textcraft",
            what="Llama of 2M parameters, trained from scratch on games of TextCraft",
            size=folder_size(TINY_TEXTCRAFT),
            licence="Apache-2.0",
            state="shipped" if is_model_folder(TINY_TEXTCRAFT) else "missing",
            path=TINY_TEXTCRAFT,
        ),
        KnownModel(
            name="smollm2-135m",
            what="SmolLM2-135M-Instruct, dequantised from Q4_1 to bfloat16",
            size=folder_size(smol) if pulled else 273_000_000,
            licence="Apache-2.0",
            state="pulled" if pulled else "available",
            path=smol,
        ),
        KnownModel(
            name="minilm-l6",
            what="all-MiniLM-L6-v2 and a layer that averages, 23M parameters: to train reward models from",
            size=folder_size(minilm) if embeds else 91_400_000,
            licence="Apache-2.0",
            state="pulled" if embeds else "available",
            path=minilm,
        ),
    ]


def find_known(name: str) -> KnownModel | None:
    """The known model of that name; "_" and case don't matter."""
    wanted = name.strip().lower().replace("_", "-")
    return next((m for m in known() if m.name == wanted), None)

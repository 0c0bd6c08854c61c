"""The one place where models, tokenizers and configs are loaded, and where models are saved.

Only this module calls `from_pretrained` of transformers, so that the same holds everywhere: files
are local, a model's own code is run only where its role says so, its generation config decides
nothing but its special tokens, and a tokenizer fits its embedding.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from itercli.models.files import copy_code, copy_tokenizer
from itercli.models.inspection import check_vocabulary, generation_ids
from itercli.models.spec import ModelError
from itercli.models.template_date import fix_date
from itercli.records import ModelRef


def load_tokenizer(ref: ModelRef) -> Any:
    """The tokenizer beside the base weights.

    Raises:
        ModelError: There is none, or it has tokens that the model has no embedding for.
    """
    from transformers import AutoTokenizer

    with _explained(ref, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(ref.base, **_how(ref))
    fix_date(tokenizer, ref.template_date)
    check_vocabulary(Path(ref.base), max(tokenizer.get_vocab().values(), default=-1) + 1)
    return tokenizer


def load_config(ref: ModelRef) -> Any:
    """The base model's config.

    Raises:
        ModelError: It can't be loaded.
    """
    from transformers import AutoConfig

    with _explained(ref, "config"):
        return AutoConfig.from_pretrained(ref.base, **_how(ref))


def load_base(ref: ModelRef, dtype: torch.dtype) -> Any:
    """The causal language model of a reference without its adapter, on the CPU.

    Raises:
        ModelError: It can't be loaded.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    ids = GenerationConfig(**generation_ids(Path(ref.base)))
    with _explained(ref, "model"):
        return AutoModelForCausalLM.from_pretrained(ref.base, dtype=dtype, generation_config=ids, **_how(ref))


def load_classifier_base(ref: ModelRef, labels: int, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """A sequence classifier on the base weights, and what transformers says of its loading.

    Raises:
        ModelError: It can't be loaded.
    """
    from transformers import AutoModelForSequenceClassification

    with _explained(ref, "classifier"):
        return AutoModelForSequenceClassification.from_pretrained(
            ref.base,
            num_labels=labels,
            dtype=dtype,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **_how(ref),
        )


def save_model(model: Any, folder: Path, source: Path) -> None:
    """Save a model's weights and config, with all that is beside those of the model that it came from.

    Generation config, tokenizer and code are copied byte for byte: transformers would refuse to
    save a generation config that it loads, and could write a tokenizer that cuts text otherwise.

    Args:
        source: Folder of the model that it was made from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _without_generation_parameters(model.config) as parameters:
        model.save_pretrained(folder)
    own = folder / "generation_config.json"
    if own.is_file() and (source / own.name).is_file():
        shutil.copyfile(source / own.name, own)
    elif own.is_file() and parameters:
        own.write_text(json.dumps(json.loads(own.read_text("utf-8")) | parameters, indent=2) + "\n", "utf-8")
    copy_tokenizer(source, folder)
    # Code is only there where the model was trusted to run it.
    if getattr(model.config, "auto_map", None):
        copy_code(source, folder)


def _how(ref: ModelRef) -> dict[str, Any]:
    return {"local_files_only": True, "trust_remote_code": ref.trust_remote_code}


@contextlib.contextmanager
def _explained(ref: ModelRef, what: str) -> Iterator[None]:
    """Errors of loading with the version, the folder and, for a model with code of its own, the way out."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # a file that is odd in any way ends up here, and a model's own code
        text = str(error) or type(error).__name__
        if "trust_remote_code" in text:
            text = (
                "the folder brings code of its own, which is not run; if you trust it, set "
                "trust_remote_code: true beside the model's path"
            )
        raise ModelError(f"{ref.version}: the {what} in {ref.base} can't be loaded: {text}") from error


@contextlib.contextmanager
def _without_generation_parameters(config: Any) -> Iterator[dict[str, Any]]:
    """Hide generation parameters that stand in a model's config, with which transformers won't save it."""
    find = getattr(config, "_get_generation_parameters", dict)
    parameters = dict(find())
    for name in parameters:
        setattr(config, name, None)
    try:
        yield parameters
    finally:
        for name, value in parameters.items():
            setattr(config, name, value)

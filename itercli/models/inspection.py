"""What can be known of a model's folder from its small files, before anything is computed.

Nothing heavy is imported and no code of the model is run, so `iter plan` can afford it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from itercli.models.files import code_files
from itercli.models.spec import ModelError

# Layers that turn token ids into vectors, as the families of transformers call them.
EMBEDDINGS = frozenset(
    {"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings", "embedding"}
)
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt",
    "tekken.json", "tokenizer_config.json",
)  # fmt: skip


def inspect_model(folder: Path, *, trust_remote_code: bool = False) -> list[str]:
    """What will keep a model of text from being loaded, sampled and saved; empty if nothing is seen.

    Looks at config, architecture, tokenizer, the size of the embedding and the generation config.
    Each text says the fact, the file and the fix.
    """
    try:
        config = read_json(folder / "config.json")
    except ModelError as error:
        return [str(error)]
    problems = [
        *_architecture(folder, config, trust_remote_code),
        *_tokenizer(folder),
    ]
    for read in (_check_sizes, generation_ids):
        try:
            read(folder)
        except ModelError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file of a model.

    Raises:
        ModelError: It can't be read, or is something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read ({error}); get the model's folder again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object; get the model's folder again")
    return found


def foreign_code(folder: Path) -> str | None:
    """The first class that a folder's files take from another repository ("ORG/NAME--module.Class")."""
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found = read_json(folder / name).get("auto_map")
            values = found.values() if isinstance(found, dict) else [found]
            texts = [v for value in values for v in (value if isinstance(value, list) else [value])]
            foreign = next((t for t in texts if isinstance(t, str) and "--" in t), None)
            if foreign:
                return foreign
    return None


def generation_ids(folder: Path) -> dict[str, int | list[int]]:
    """The special tokens that `generation_config.json` names, else `config.json`.

    The file's other values are defaults for `generate`. They are not used: a recipe says how to sample.

    Raises:
        ModelError: The file can't be read, or an id is no number.
    """
    path = folder / "generation_config.json"
    if path.is_file():
        found = read_json(path)
    else:
        path = folder / "config.json"
        config = read_json(path)
        found = {**_text_config(config), **{k: v for k, v in config.items() if v is not None}}
    ids: dict[str, int | list[int]] = {}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = found.get(name)
        if value is None:
            continue
        if not all(isinstance(i, int) for i in (value if isinstance(value, list) else [value])):
            raise ModelError(f"{path}: {name} is {value!r}, not a token id; correct the file")
        ids[name] = value
    return ids


def embedding_rows(folder: Path) -> int | None:
    """Tokens that a model has an embedding for: by its weights, else by its config; None if unknown."""
    rows = 0
    for path in sorted(folder.glob("*.safetensors")):
        for name, shape in _shapes(path).items():
            module, _, kind = name.rpartition(".")
            if kind == "weight" and module.rpartition(".")[2] in EMBEDDINGS and len(shape) == 2:
                rows = max(rows, shape[0])
    if rows:
        return rows
    size = _text_config(read_json(folder / "config.json")).get("vocab_size")
    return size if isinstance(size, int) else None


def check_vocabulary(folder: Path, tokens: int) -> None:
    """Refuse a tokenizer with ids that the embedding has no row for.

    Args:
        tokens: The tokenizer's highest id, plus one.

    Raises:
        ModelError: It is larger than the embedding.
    """
    rows = embedding_rows(folder)
    if rows is not None and tokens > rows:
        raise ModelError(
            f"{folder}: the tokenizer has ids up to {tokens - 1}, but the model's embedding has {rows} rows; "
            "remove the tokens that were added to the tokenizer, or enlarge the model with transformers "
            f"(model.resize_token_embeddings({tokens}), then save_pretrained)"
        )


def tokenizer_ids(folder: Path) -> int:
    """The highest token id that a tokenizer's files name, plus one; 0 if they name none."""
    ids = [-1]
    path = folder / "tokenizer.json"
    if path.is_file():
        content = read_json(path)
        vocab = (content.get("model") or {}).get("vocab")
        if isinstance(vocab, dict):
            ids += vocab.values()
        elif isinstance(vocab, list):
            ids.append(len(vocab) - 1)
        ids += [t.get("id", -1) for t in content.get("added_tokens") or [] if isinstance(t, dict)]
    path = folder / "tokenizer_config.json"
    if path.is_file():
        ids += [int(i) for i in read_json(path).get("added_tokens_decoder") or {} if str(i).isdigit()]
    path = folder / "added_tokens.json"
    if path.is_file():
        ids += read_json(path).values()
    return max(i for i in ids if isinstance(i, int)) + 1


def _check_sizes(folder: Path) -> None:
    check_vocabulary(folder, tokenizer_ids(folder))


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _shapes(path: Path) -> dict[str, list[int]]:
    """Shapes of a safetensors file's tensors, from its header."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 0 < size <= 100_000_000:
                raise ValueError("no header")
            header = json.loads(file.read(size))
        return {name: list(t["shape"]) for name, t in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no safetensors file ({error}); get the model's folder again") from error


def _tokenizer(folder: Path) -> list[str]:
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return []
    return [f"{folder} has no tokenizer (no tokenizer.json or the like); copy its files beside the weights"]


def _architecture(folder: Path, config: dict[str, Any], trusted: bool) -> list[str]:
    """Whether transformers can load it, as far as its source text tells."""
    kind, own = config.get("model_type"), config.get("auto_map")
    known = known_model_types()
    if not isinstance(kind, str):
        return [f"{folder / 'config.json'} names no model_type; get the model's folder again"]
    if trusted and own:
        return []
    if not known or kind in known:
        return []
    if own:
        names = ", ".join(path.name for path in code_files(folder)) or "no Python file, though"
        return [
            f"{folder}: transformers has no model type {kind!r}; the folder brings its own code ({names}). "
            "If you trust that code, set trust_remote_code: true beside the model's path"
        ]
    return [
        f"{folder}: the installed transformers has no model of text of type {kind!r} (model_type in "
        "config.json); update transformers, or choose another model"
    ]


@cache
def known_model_types() -> frozenset[str]:
    """Model types that the installed transformers generates text or classifies with; empty if unknown.

    Read from its source: importing it costs seconds, and torch.
    """
    spec = find_spec("transformers")
    try:
        auto = Path(str(spec and spec.origin)).parent / "models" / "auto"
        text = (auto / "modeling_auto.py").read_text("utf-8")
    except OSError:
        return frozenset()
    found: set[str] = set()
    for block in ("CAUSAL_LM", "SEQUENCE_CLASSIFICATION", "IMAGE_TEXT_TO_TEXT"):
        start = text.find(f"MODEL_FOR_{block}_MAPPING_NAMES = OrderedDict(")
        if start < 0:
            return frozenset()
        found |= set(re.findall(r'\(\s*"([\w.-]+)",', text[start : text.find("\n)", start)]))
    return frozenset(found)

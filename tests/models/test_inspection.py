"""What a model's small files say before anything is computed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.models.inspection import embedding_rows, inspect_model, known_model_types, tokenizer_ids
from itercli.models.known import TINY_RTL

Change = Callable[[Path], Any]


def edit(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    data = json.loads(path.read_text("utf-8")) | values
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}), "utf-8")


def more_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    size = embedding_rows(folder)
    data["added_tokens"].append(data["added_tokens"][0] | {"id": size, "content": "<new>"})
    path.write_text(json.dumps(data), "utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY_RTL, tmp_path / "model"))


def test_a_sound_model_has_no_problem(folder: Path) -> None:
    assert inspect_model(folder) == []
    assert tokenizer_ids(folder) <= (embedding_rows(folder) or 0)
    assert {"llama", "qwen3", "gpt2", "bert", "gemma3"} <= known_model_types()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "config.json").write_text("{"), r"config\.json can't be read"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json holds no JSON object"),
        (lambda f: edit(f / "config.json", model_type="nonesuch"), "no model of text of type 'nonesuch'"),
        (lambda f: edit(f / "config.json", model_type=None), "names no model_type"),
        (lambda f: (f / "generation_config.json").write_text("x"), r"generation_config\.json can't be read"),
        (lambda f: edit(f / "generation_config.json", eos_token_id="</s>"), "eos_token_id is '</s>'"),
        (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "has no tokenizer"),
        (more_tokens, r"ids up to \d+, but the model's embedding has \d+ rows.*resize_token_embeddings"),
        (lambda f: next(f.glob("*.safetensors")).write_bytes(b"x"), "no safetensors file"),
    ],
)
def test_what_would_end_a_run_is_named_with_place_and_fix(change: Change, says: str, folder: Path) -> None:
    import re

    change(folder)
    (problem,) = inspect_model(folder)
    assert re.search(says, problem)
    assert str(folder) in problem


def test_code_of_a_model_is_named_unless_it_is_trusted(folder: Path) -> None:
    edit(folder / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.C"})
    (folder / "mine.py").write_text("raise SystemExit")
    (problem,) = inspect_model(folder)
    assert "mine.py" in problem
    assert "trust_remote_code: true" in problem
    assert inspect_model(folder, trust_remote_code=True) == []


@pytest.mark.parametrize("odd", [{"temperature": 0.9, "top_p": 0.6}, {"early_stopping": "perhaps"}])
def test_an_inconsistent_generation_config_is_no_problem(odd: dict[str, Any], folder: Path) -> None:
    """Its values are not used, and it is copied, not saved."""
    edit(folder / "generation_config.json", **odd)
    assert inspect_model(folder) == []

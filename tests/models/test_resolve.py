"""Models resolve by name, folder and hub cache, offline, with errors that say what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from itercli import ledger, models
from itercli.models import ModelError, ModelNotFound, ModelSpec, known, resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches of our own and of the hub."""
    monkeypatch.setenv("ITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def make_model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def make_hub_model(hub: Path, repo: str = "acme/llama") -> Path:
    folder = hub / f"models--{repo.replace('/', '--')}"
    snapshot = make_model(folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_import_and_resolution_stay_light(tmp_path):
    make_model(tmp_path / "m")
    code = (
        "import sys; from itercli.models import ModelSpec, known, resolve; known();"
        f"resolve(ModelSpec(path={str(tmp_path / 'm')!r}));"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'safetensors', 'requests'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_spec_is_strict():
    with pytest.raises(ValidationError):
        ModelSpec.model_validate({"path": "tiny-rtl", "revison": "main"})
    with pytest.raises(ValidationError):
        ModelSpec(path="")


def test_relative_folder_resolves_to_absolute(tmp_path, monkeypatch):
    make_model(tmp_path / "my" / "model")
    monkeypatch.chdir(tmp_path)
    found = resolve(ModelSpec(path="my/model"))
    assert found.path == tmp_path / "my" / "model"
    assert found.source == "folder"


def test_folder_wins_over_hub_cache(tmp_path, monkeypatch):
    make_hub_model(tmp_path / "hub")
    make_model(tmp_path / "acme" / "llama")
    monkeypatch.chdir(tmp_path)
    assert resolve(ModelSpec(path="acme/llama")).source == "folder"


def test_hub_model_from_local_cache_is_identified_by_commit(tmp_path):
    snapshot = make_hub_model(tmp_path / "hub")
    for revision in (None, "main", COMMIT):
        found = resolve(ModelSpec(path="acme/llama", revision=revision))
        assert found.path == snapshot
        assert found.digest == f"hub:acme/llama@{COMMIT}"
        assert found.source == "hub"


def test_incomplete_snapshot_counts_as_absent(tmp_path):
    snapshot = make_hub_model(tmp_path / "hub")
    (snapshot / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").write_bytes(b"x")
    with pytest.raises(ModelNotFound):
        resolve(ModelSpec(path="acme/llama"))
    (snapshot / "model-2.safetensors").write_bytes(b"x")
    assert resolve(ModelSpec(path="acme/llama")).path == snapshot


def test_unknown_hub_model_names_the_places_and_the_pull(tmp_path):
    with pytest.raises(ModelNotFound) as caught:
        resolve(ModelSpec(path="acme/llama", revision="v2"))
    text = str(caught.value)
    assert str(tmp_path / "hub") in text
    assert "iter models pull acme/llama --revision v2" in text


def test_download_is_refused_offline():
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve(ModelSpec(path="acme/llama"), download=True)


def test_near_miss_is_suggested():
    with pytest.raises(ModelNotFound, match="did you mean 'smollm2-135m'"):
        resolve(ModelSpec(path="smolm2-135m"))


def test_known_model_not_pulled_says_how():
    with pytest.raises(ModelNotFound, match="iter models pull smollm2-135m"):
        resolve(ModelSpec(path="smollm2-135m"))


def test_known_model_in_the_cache(tmp_path):
    make_model(tmp_path / "cache" / "models" / "smollm2-135m")
    assert resolve(ModelSpec(path="SmolLM2_135M")).source == "pulled"
    assert {m.name: m.state for m in known()}["smollm2-135m"] == "pulled"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", "x", "no config.json"),
        ("adapter_config.json", "{}", "LoRA adapter"),
        ("config.json", "{}", "weight files"),
    ],
)
def test_folder_that_is_no_model(tmp_path, name, content, message):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text(content)
    with pytest.raises(ModelNotFound, match=message):
        resolve(ModelSpec(path=str(tmp_path / "m")))


def test_revision_of_a_folder_is_an_error(tmp_path):
    make_model(tmp_path / "m")
    with pytest.raises(ModelError, match="only applies to hub ids"):
        resolve(ModelSpec(path=str(tmp_path / "m"), revision="main"))


def test_digest_follows_content_not_place(tmp_path):
    one, two = make_model(tmp_path / "one"), make_model(tmp_path / "two")
    (two / "README.md").write_text("not part of the model")
    (two / "training_args.bin").write_bytes(b"neither")
    assert models.folder_digest(one) == models.folder_digest(two)
    (two / "tokenizer.json").write_text('{"changed": 1}')
    assert models.folder_digest(one) != models.folder_digest(two)


def test_remote_code_is_part_of_the_digest_when_trusted(tmp_path):
    folder = make_model(tmp_path / "m")
    plain = models.folder_digest(folder, code=True)
    (folder / "modeling.py").write_text("x = 1")
    assert models.folder_digest(folder, code=True) != plain
    assert models.folder_digest(folder) == plain


def test_second_digest_reads_nothing_and_sees_changes(tmp_path, monkeypatch):
    folder = make_model(tmp_path / "m")
    monkeypatch.setattr(ledger, "SETTLED_NS", -1)
    read: list[str] = []
    original = ledger._hash
    monkeypatch.setattr(ledger, "_hash", lambda p: (read.append(p.name), original(p))[1])
    first = models.folder_digest(folder)
    assert len(read) == 3
    ledger._known.clear()  # as in another process
    assert models.folder_digest(folder) == first
    assert len(read) == 3
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert models.folder_digest(folder) != first
    assert read[3:] == ["model.safetensors"]


def test_an_edit_that_sets_the_time_back_is_seen(tmp_path, monkeypatch):
    folder = make_model(tmp_path / "m")
    monkeypatch.setattr(ledger, "SETTLED_NS", -1)
    first = models.folder_digest(folder)
    weights = folder / "model.safetensors"
    before = weights.stat()
    time.sleep(0.02)  # more than a tick of the clock that files are stamped by
    weights.write_bytes(weights.read_bytes()[::-1])
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    assert models.folder_digest(folder) != first


def test_fresh_file_is_not_trusted_to_the_cache(tmp_path):
    folder = make_model(tmp_path / "m")
    models.folder_digest(folder)
    assert not (tmp_path / "cache" / "digests.json").exists()


def test_broken_digest_cache_only_costs_time(tmp_path):
    folder = make_model(tmp_path / "m")
    expected = models.folder_digest(folder)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "digests.json").write_text('["torn')
    assert models.folder_digest(folder) == expected


def test_changed_digit_in_the_digest_cache_is_noticed(tmp_path, monkeypatch):
    folder = make_model(tmp_path / "m")
    monkeypatch.setattr(ledger, "SETTLED_NS", -1)
    expected = models.folder_digest(folder)
    cache = tmp_path / "cache" / "digests.json"
    known = re.findall(r'"([0-9a-f]{64})"\n', cache.read_text())[0]
    cache.write_text(cache.read_text().replace(known, "0" * 64))
    ledger._known.clear()  # as in another process
    assert models.folder_digest(folder) == expected

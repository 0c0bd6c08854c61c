"""Models are loaded and saved in one place, whatever stands beside their weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import itercli
from itercli.models import ModelError, ModelSpec, folder_digest, resolve
from itercli.models.load import load_base, load_tokenizer
from itercli.records import ModelRef, PreferencePair
from itercli.sampling.base import SamplerError
from itercli.sampling.specs import TransformersSpec
from itercli.sampling.weights import save_merged
from itercli.training.classifiers import Reward
from itercli.training.methods import Sft
from tests.models.test_inspection import edit, more_tokens
from tests.sampling.conftest import ask, never, save_adapter, save_model
from tests.training.tiny import example, tiny_job

ODD = {"temperature": 0.9, "top_p": 0.6, "num_beams": 1, "early_stopping": "perhaps"}
CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

from .names import KIND


class MineConfig(LlamaConfig):
    model_type = KIND


class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_model(tmp_path / "base", "llama")
    return tmp_path / "base"


def ref_of(base: Path, adapter: Path | None = None, trust: bool = False) -> ModelRef:
    digest = f"{base}+{adapter}"
    return ModelRef(
        base=str(base),
        adapter=str(adapter) if adapter else None,
        version="policy@0",
        digest=digest,
        trust_remote_code=trust,
    )


def texts(ref: ModelRef) -> list[str]:
    sampler = TransformersSpec(batch_size=8, device="cpu", dtype="float32").build()
    sampler.load(ref)
    return [row.text for row in sampler.generate(iter([ask("count", i, i) for i in range(4)]), never)]


def test_nothing_else_loads_or_saves_models() -> None:
    pattern = re.compile(r"\bAuto\w+\.from_pretrained|\bmodel\S*\.save_pretrained|GenerationConfig\.from_pre")
    root = Path(itercli.__file__).parent
    own = {
        # The loader; those that make a model of a package's files; an exported folder; a text for others.
        "models/load.py", "models/smollm2.py", "models/minilm.py", "handover/gguf.py", "handover/card.py",
        "training/models.py",  # saves adapters
    }  # fmt: skip
    found = {str(p.relative_to(root)) for p in root.rglob("*.py") if pattern.search(p.read_text("utf-8"))}
    assert found <= own


@pytest.mark.parametrize("kind", ["full", "merged", "reward"])
def test_a_generation_config_that_transformers_would_not_save_ends_no_training(
    kind: str, base: Path, tmp_path: Path
) -> None:
    if kind == "merged":
        save_adapter(base, tmp_path / "adapter")
    edit(base / "generation_config.json", **ODD)
    before = (base / "generation_config.json").read_bytes()
    out = tmp_path / "out" / "weights"
    if kind == "merged":
        save_merged(ref_of(base, tmp_path / "adapter"), out)
    elif kind == "full":
        Sft().train(tiny_job(tmp_path, ref_of(base), [example(i) for i in range(4)], lr=1e-2))
    else:
        pairs = [
            PreferencePair(prompt_id=str(i), messages=example(i).messages, chosen="a = b", rejected="no")
            for i in range(4)
        ]
        Reward().train(tiny_job(tmp_path, ref_of(base), pairs, lr=1e-2))  # type: ignore[arg-type]
        assert (out / "config.json").is_file()
        return
    assert (out / "generation_config.json").read_bytes() == before
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert texts(ref_of(out)) != texts(ref_of(base))


def test_defaults_of_the_folder_change_no_completion(base: Path) -> None:
    plain = texts(ref_of(base))
    edit(base / "generation_config.json", do_sample=True, top_k=1, repetition_penalty=5.0, temperature=0.1)
    assert texts(ref_of(base)) == plain


def test_generation_parameters_in_the_model_config_end_no_training(base: Path, tmp_path: Path) -> None:
    edit(base / "config.json", temperature=0.3, no_repeat_ngram_size=3, num_beams=4)
    Sft().train(tiny_job(tmp_path, ref_of(base), [example(i) for i in range(4)], lr=1e-2))
    assert texts(ref_of(tmp_path / "out" / "weights"))


def test_a_tokenizer_larger_than_the_embedding_is_refused_before_anything_is_computed(base: Path) -> None:
    more_tokens(base)
    with pytest.raises(SamplerError, match=r"base: the tokenizer has ids up to 320, .* has 320 rows"):
        texts(ref_of(base))
    with pytest.raises(ModelError, match=r"resize_token_embeddings\(321\)"):
        load_tokenizer(ref_of(base))


def own_code(base: Path) -> None:
    """Make it a model that only its own code can load."""
    edit(
        base / "config.json",
        model_type="mine",
        architectures=["MineForCausalLM"],
        auto_map={"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"},
    )
    (base / "mine.py").write_text(CODE)
    (base / "names.py").write_text('KIND = "mine"\n')


def test_code_of_a_model_is_run_where_it_is_trusted_and_nowhere_else(base: Path, tmp_path: Path) -> None:
    plain = texts(ref_of(base))
    own_code(base)
    with pytest.raises(ModelError, match="trust_remote_code: true"):
        load_base(ref_of(base), torch.float32)
    assert texts(ref_of(base, trust=True)) == plain

    job = tiny_job(tmp_path, ref_of(base, trust=True), [example(i) for i in range(4)], lr=1e-2)
    Sft().train(job)
    trained = tmp_path / "out" / "weights"
    assert texts(ref_of(trained, trust=True)) != plain, "the trained model has its code beside it"
    config = json.loads((trained / "config.json").read_text())
    assert config["auto_map"]["AutoModelForCausalLM"] == "mine.MineForCausalLM"
    with pytest.raises(SamplerError, match="trust_remote_code"):
        texts(ref_of(trained))


def test_the_digest_covers_the_code_that_is_run(base: Path) -> None:
    own_code(base)
    spec = ModelSpec(path=str(base), trust_remote_code=True)
    model = resolve(spec)
    assert model.trust_remote_code
    assert model.digest != folder_digest(base) == resolve(ModelSpec(path=str(base))).digest
    (base / "names.py").write_text('KIND = "mine"  # changed\n')
    assert resolve(spec).digest != model.digest
    edit(base / "config.json", auto_map={"AutoConfig": "org/name--mine.MineConfig"})
    with pytest.raises(ModelError, match=r"org/name--mine\.MineConfig.*write 'mine\.MineConfig'"):
        resolve(spec)


def test_config_that_is_no_json_is_named(base: Path) -> None:
    (base / "generation_config.json").write_text("{")
    ref: Any = ref_of(base)
    with pytest.raises(ModelError, match=r"generation_config\.json can't be read"):
        load_base(ref, torch.float32)

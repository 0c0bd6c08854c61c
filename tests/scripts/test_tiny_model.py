"""The shipped tiny model: loads offline, speaks its chat template, ends its turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from itercli.data.rtl_tasks import RtlTasks, split_digest  # noqa: E402

FOLDER = Path(__file__).parents[2] / "itercli" / "models" / "tiny_rtl"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return transformers.AutoModelForCausalLM.from_pretrained(
        FOLDER, dtype=torch.float32, local_files_only=True
    ).eval()


def test_it_is_small_and_has_what_engines_expect(model) -> None:
    assert sum(p.numel() for p in model.parameters()) < 2.5e6
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 6e6
    assert model.config.architectures == ["LlamaForCausalLM"]
    assert model.config.head_dim == 64
    assert model.config.max_position_embeddings >= 1024


def test_it_was_trained_on_the_pretrain_split_as_it_is_now() -> None:
    """Else a task that is held out today may have been seen: change the templates, rebuild the model."""
    built = json.loads((FOLDER / "build.json").read_text())
    assert built["pretrain_sha256"] == split_digest("pretrain")


def test_special_tokens_agree_between_tokenizer_and_model(tokenizer, model) -> None:
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_chat_template_round_trips_and_marks_the_answer(tokenizer) -> None:
    chat = [{"role": "user", "content": "Invert a.\n"}, {"role": "assistant", "content": "assign y = ~a;\n"}]
    ask = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    assert ask == "<|user|>\nInvert a.\n<|end|>\n<|assistant|>\n"
    assert whole == ask + "assign y = ~a;\n<|end|>"

    out = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = out["input_ids"], out["assistant_masks"]
    marked = [i for i, m in zip(ids, mask, strict=True) if m]
    assert tokenizer.decode(ids) == whole
    assert tokenizer.decode(marked) == "assign y = ~a;\n<|end|>"
    assert marked[-1] == tokenizer.eos_token_id


def test_any_text_survives_the_tokenizer(tokenizer) -> None:
    for text in ("module m;\n\tassign y = 12'hF0;\nendmodule\n", "größer  als\r\n", "   a"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_it_writes_a_module_and_ends_its_turn(tokenizer, model) -> None:
    ended, modules = 0, 0
    prompts = list(RtlTasks(split="dev", limit=8).prompts())
    for prompt in prompts:
        chat = [m.model_dump() for m in prompt.messages]
        ids = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.no_grad():
            out = model.generate(ids, do_sample=False, max_new_tokens=200)[0, ids.shape[1] :]
        text = tokenizer.decode(out, skip_special_tokens=True)
        ended += out[-1].item() == tokenizer.eos_token_id
        modules += text.startswith(prompt.meta["header"]) and text.endswith("endmodule\n")
    assert ended == len(prompts)
    assert modules >= 0.75 * len(prompts)

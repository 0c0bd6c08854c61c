"""Tokenizers of the families that people train, rebuilt small: same pipeline and template, own vocabulary."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

CORPUS = [
    "The fox ran over the hill. The fox slept. What is two and two? It is four.",
    "module top(input a, output b); assign b = a; endmodule  // indented, 1. one 2. two",
    "user assistant system model [INST] [/INST] Write a story about a fox. Once upon a time\n\nthere was.",
    "def main(x):\n    return x + 1\n\nDein Freund läuft – schnell. 你好,世界",
] * 8

LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + "
    "' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + "
    "' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else "
    "m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

FAMILIES = (
    "llama2",
    "llama2-new",
    "mistral",
    "zephyr",
    "llama3",
    "qwen",
    "gemma",
    "phi3",
    "phi2",
)


@cache
def family(name: str) -> Any:
    """The tokenizer; shared, so leave it as it is."""
    return {
        "llama2": lambda: _sentencepiece(LLAMA2, legacy=True),
        "llama2-new": lambda: _sentencepiece(LLAMA2, legacy=False),
        "mistral": lambda: _sentencepiece(MISTRAL, legacy=True),
        "zephyr": lambda: _sentencepiece(ZEPHYR, legacy=True),
        "phi3": _phi3,
        "gemma": _gemma,
        "llama3": _llama3,
        "qwen": _qwen,
        "phi2": _phi2,
    }[name]()


def _bpe(tokenizer: Any, special: list[str], *, byte_fallback: bool) -> Any:
    from tokenizers import models, pre_tokenizers, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=special + ([f"<0x{i:02X}>" for i in range(256)] if byte_fallback else []),
        initial_alphabet=[] if byte_fallback else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.model = models.BPE(unk_token=special[0] if byte_fallback else None, byte_fallback=byte_fallback)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _llama_pieces(special: list[str], *, legacy: bool, prefix: bool = True) -> Any:
    """SentencePiece's BPE, as transformers converts it: "▁" for spaces, bytes where a piece is missing."""
    import json

    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    raw = Tokenizer(models.BPE())
    # Pieces are trained on words, so that none holds a newline or two words.
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "removed"), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    raw = _bpe(raw, ["<unk>", "<s>", "</s>"], byte_fallback=True)
    state = json.loads(raw.to_str())
    # The bytes belong to the model alone.
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    raw = Tokenizer.from_str(json.dumps(state))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    raw.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    raw.pre_tokenizer = None
    if not prefix:
        raw.normalizer = normalizers.Replace(" ", "▁")
    elif legacy:
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return raw


def _wrap(raw: Any, template: str | None, **tokens: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False, **tokens)
    made.chat_template = template
    return made


def _starts_with(raw: Any, token: str) -> None:
    from tokenizers.processors import TemplateProcessing

    raw.post_processor = TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, raw.token_to_id(token))]
    )


def _sentencepiece(template: str, *, legacy: bool) -> Any:
    raw = _llama_pieces([], legacy=legacy)
    _starts_with(raw, "<s>")
    return _wrap(raw, template, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def _phi3() -> Any:
    """Llama's pieces; its marks swallow the white space behind them."""
    from tokenizers import AddedToken

    raw = _llama_pieces([], legacy=True)
    marks = ["<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>"]
    raw.add_special_tokens([AddedToken(m, special=True, rstrip=m != "<|endoftext|>") for m in marks])
    _starts_with(raw, "<s>")
    return _wrap(raw, PHI3, unk_token="<unk>", bos_token="<s>", eos_token="<|endoftext|>")


def _gemma() -> Any:
    from tokenizers import AddedToken

    raw = _llama_pieces([], legacy=False, prefix=False)
    marks = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    raw.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in marks])
    _starts_with(raw, "<bos>")
    return _wrap(raw, GEMMA, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>")


def _byte_level(special: list[str], plain: list[str], pattern: str | None, normal: Any = None) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    raw = Tokenizer(models.BPE())
    raw.normalizer = normal
    raw.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if pattern is None
        else pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    raw.decoder = decoders.ByteLevel()
    raw = _bpe(raw, [], byte_fallback=False)
    raw.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    raw.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    return raw


_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _llama3() -> Any:
    special = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ]
    raw = _byte_level(special, [], _WORDS)
    _starts_with(raw, "<|begin_of_text|>")
    return _wrap(raw, LLAMA3, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


def _qwen() -> Any:
    from tokenizers import normalizers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    plain = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
    raw = _byte_level(special, plain, _WORDS.replace("{1,3}", ""), normalizers.NFC())
    return _wrap(raw, CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _phi2() -> Any:
    raw = _byte_level(["<|endoftext|>"], [], None)
    return _wrap(raw, None, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")


def real_mistral(folder: Path, template: str = ZEPHYR) -> Any:
    """Mistral v0.1's own vocabulary, which the package mistral-common carries."""
    import json
    import shutil

    import mistral_common
    from transformers import AutoTokenizer

    source = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, folder / "tokenizer.model")
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": True,
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return AutoTokenizer.from_pretrained(folder)

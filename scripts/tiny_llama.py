"""What the builds of the shipped tiny models share: tokenizer, model, training loop, saving."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END, PAD = "<|end|>", "<|pad|>"
SPECIAL = [PAD, END, "<|user|>", "<|assistant|>", "<|system|>"]
POSITIONS = 1024
IGNORED = -100
CHAT_TEMPLATE = (
    "{%- for m in messages -%}"
    "{{- '<|' + m['role'] + '|>\n' -}}"
    "{%- if m['role'] == 'assistant' -%}"
    "{%- generation -%}{{- m['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- m['content'] + '<|end|>' -}}{%- endif -%}"
    "{%- if not loop.last or add_generation_prompt -%}{{- '\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- endif -%}"
)

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Size:
    """What any build determines, beside its data.

    Attributes:
        bf16: Autocast; its weights differ from those of fp32.
        batch: Sequences of a step.
        hidden: Width, `heads` times 64: a head size that fast attention kernels accept.
    """

    seed: int = 0
    steps: int = 2000
    bf16: bool = True
    batch: int = 24
    lr: float = 3e-3
    vocab: int = 1024
    hidden: int = 192
    layers: int = 4
    heads: int = 3
    mlp: int = 512


def build_tokenizer(texts: Iterable[str], vocab: int, pieces: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE with the special tokens and the chat template.

    Args:
        pieces: Regular expression of what a token never reaches beyond.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=SPECIAL,
            show_progress=False,
            min_frequency=3,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        additional_special_tokens=SPECIAL[2:],
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast, size: Size) -> LlamaForCausalLM:
    """A randomly initialised Llama."""
    torch.manual_seed(size.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=size.hidden,
            intermediate_size=size.mlp,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            head_dim=64,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            initializer_range=0.04,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def collate(rows: list[tuple[list[int], list[int]]], pad: int) -> Batch:
    """(ids, labels) of each row, padded on the right: with a causal mask no label ever sees padding."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (row, wanted) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, : len(row)] = torch.tensor(wanted)
    return ids, labels


def train(
    model: LlamaForCausalLM,
    data: Iterator[Batch],
    size: Size,
    minutes: float | None = None,
    stop: int | None = None,
) -> int:
    """AdamW with warm-up and a cosine over `size.steps`, left at step `stop`; returns the steps taken."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.lr, betas=(0.9, 0.95), weight_decay=0.05)
    started, tokens, mean_loss = time.monotonic(), 0, 0.0
    model.train()
    last = size.steps if stop is None else stop
    for step in range(last):
        warm = min(1.0, (step + 1) / 40)
        rate = size.lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / size.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, labels = next(data)
        with torch.autocast("cpu", torch.bfloat16, enabled=size.bf16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += ids.numel()
        mean_loss = loss.item() if step == 0 else 0.95 * mean_loss + 0.05 * loss.item()
        seconds = time.monotonic() - started
        if step % 50 == 49:
            speed = f"{tokens / seconds:.0f} tokens/s, {seconds:.0f} s"
            print(f"step {step + 1}: loss {mean_loss:.3f}, {speed}", flush=True)
        if minutes is not None and seconds > 60 * minutes:
            return step + 1
    return last


def save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, size: Size, out: Path, **made_from: Any
) -> None:
    """Write weights (bf16), config, tokenizer, and `build.json`: the settings and `made_from`."""
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config.max_length = None
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    # Names that transformers 4 and vLLM know too; the rest of the file is about this machine.
    config = json.loads((out / "tokenizer_config.json").read_text())
    for key in ("backend", "is_local", "local_files_only", "extra_special_tokens"):
        config.pop(key, None)
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": SPECIAL[2:]}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "model.safetensors").chmod(0o644)
    (out / "build.json").write_text(json.dumps(asdict(size) | made_from, indent=2) + "\n")

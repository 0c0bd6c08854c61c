"""Tiny classifiers, and preferences that they can learn."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from itercli.records import Message, ModelRef, PreferencePair
from tests.training.tiny import tiny_ref

LORA: dict[str, Any] = {"tuning": "lora", "lora": {"r": 8, "alpha": 16, "dropout": 0.05}, "lr": 5e-3}


def tiny_bert(folder: Path) -> ModelRef:
    """A random BERT of two layers with its tokenizer of letters, dropout 0.1 and a context of 128."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=80,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789:"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    vocab = {word: i for i, word in enumerate(words)}
    BertTokenizer(vocab=vocab, model_max_length=128).save_pretrained(folder)
    return ModelRef(base=str(folder), version="reward@0", digest="bert")


def tiny(kind: str, folder: Path) -> ModelRef:
    """A "llama" with a chat template, or a "bert" without one."""
    return tiny_bert(folder) if kind == "bert" else tiny_ref(folder)


def preferences(n: int, seed: int = 0) -> list[PreferencePair]:
    """Pairs whose chosen answer has many x, the rejected one many z; margins 0 to 2."""
    rng = random.Random(seed)

    def text(letter: str) -> str:
        return "".join(rng.choice("abc" + 4 * letter) for _ in range(rng.randint(5, 9)))

    return [
        PreferencePair(
            prompt_id=f"p{i // 2}",
            index=i % 2,
            messages=[Message(role="user", content=f"q{i}")],
            chosen=text("x"),
            rejected=text("z"),
            rewards=(float(i % 3), 0.0),
        )
        for i in range(n)
    ]

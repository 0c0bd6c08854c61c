"""Tiny random models of several families and a tokenizer trained on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from itercli.records import Message, ModelRef
from itercli.sampling.base import Request, Sampled, SamplingParams

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "module adder(input a, input b, output y); assign y = a + b; endmodule",
    "def main(x): return x + 1  # count 1, 2, 3",
    "the quick brown fox jumps over the lazy dog and runs away again",
    "user assistant system\nWrite a short story about a fox. Once upon a time there was one.",
] * 8


def save_tokenizer(folder: Path, chat: bool = True, vocab: int = 320) -> None:
    """Byte-level BPE with ChatML special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def save_model(folder: Path, family: str = "llama", seed: int = 0, context: int = 1024) -> None:
    """A random model with sharp logits, so that greedy ties do not occur."""
    import torch
    import transformers

    common = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": context,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.15,
    }
    grouped = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    many = {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 16}
    layer_types = ["sliding_attention", "full_attention"]
    families = {
        "llama": ("LlamaForCausalLM", {}),
        "llama-gqa": ("LlamaForCausalLM", grouped),
        "llama-mqa": ("LlamaForCausalLM", many),
        "qwen2": ("Qwen2ForCausalLM", grouped),
        "qwen3": ("Qwen3ForCausalLM", grouped),
        "mistral": ("MistralForCausalLM", grouped | {"sliding_window": 24}),
        "gemma2": (
            "Gemma2ForCausalLM",
            grouped | {"sliding_window": 24, "layer_types": layer_types, "query_pre_attn_scalar": 32},
        ),
        "gemma3": (
            "Gemma3ForCausalLM",
            grouped | {"sliding_window": 24, "layer_types": layer_types, "query_pre_attn_scalar": 32},
        ),
        "gpt-neox": ("GPTNeoXForCausalLM", {"num_attention_heads": 2}),
        "phi3": ("Phi3ForCausalLM", grouped | {"head_dim": 16}),
        "gpt2": (
            "GPT2LMHeadModel",
            {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": context},
        ),
        "mixtral": ("MixtralForCausalLM", grouped | {"num_local_experts": 4, "num_experts_per_tok": 2}),
        "mamba2": (
            "Mamba2ForCausalLM",
            {"num_heads": 4, "head_dim": 32, "state_size": 16, "n_groups": 1, "chunk_size": 16},
        ),
        "bloom": ("BloomForCausalLM", {"n_layer": 2, "n_head": 2}),
    }
    name, changes = families[family]
    cls = getattr(transformers, name)
    options = common | changes
    if family == "gpt2":
        options = {k: v for k, v in options.items() if k not in ("head_dim", "num_key_value_heads")}
    torch.manual_seed(seed)
    model = cls(cls.config_class(**options)).eval()
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 0
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_tokenizer(folder)


def save_adapter(base: Path, folder: Path, seed: int = 1, scale: float = 0.2, **options: object) -> None:
    """A LoRA adapter; `scale` 0 leaves it without effect, as PEFT initialises it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], **options)
    peft = get_peft_model(model, config)
    for name, parameter in peft.named_parameters():
        if "lora_B" in name and scale:
            torch.nn.init.normal_(parameter, std=scale)
    peft.save_pretrained(folder)


def ref_of(base: Path, adapter: Path | None = None, version: str = "policy@0") -> ModelRef:
    digest = f"{base}+{adapter}"
    return ModelRef(base=str(base), adapter=str(adapter) if adapter else None, version=version, digest=digest)


def ask(text: str, index: int = 0, seed: int = 0, **params: object) -> Request:
    values = {"temperature": 1.0, "max_new_tokens": 24} | params
    return Request(
        key=(text, index),
        messages=(Message(role="user", content=text),),
        seed=seed,
        params=SamplingParams(**values),
    )


def never() -> bool:
    return False


class Chains:
    """Requests of which each waits for the one before: `n` chains of `length` calls.

    Feed `requests()` to a sampler and each completion to `finished`.
    """

    def __init__(self, n: int, length: int, **params: object) -> None:
        self.params, self.length = params, length
        self.ready = [(i, 0) for i in range(n)]
        self.left = n * length
        self.waits = 0

    def requests(self) -> Iterator[Request | None]:
        while self.left:
            if self.ready:
                chain, call = self.ready.pop()
                yield ask(f"chain {chain}", call, 100 * chain + call, **self.params)
            else:
                self.waits += 1
                yield None

    def finished(self, row: Sampled) -> None:
        self.left -= 1
        chain, call = int(row.key[0].split()[1]), row.key[1] + 1
        if call < self.length:
            self.ready.append((chain, call))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a tiny model, made once per family and seed."""
    root = tmp_path_factory.mktemp("models")

    def get(family: str = "llama", seed: int = 0) -> Path:
        folder = root / f"{family}-{seed}"
        if not folder.exists():
            save_model(folder, family, seed)
        return folder

    return get

"""Tiny models, tokenizers and jobs for training tests; no network, built in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itercli.records import Message, ModelRef, RankedExample
from itercli.training.base import TrainingSpec, TrainJob

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = [
    "assign y = a & b;",
    "assign y = a | b;",
    "assign y = ~a;",
    "always @(posedge clk) q <= d;",
    "assign y = sel ? a : b;",
]


def tiny_tokenizer() -> Any:
    """A byte-level tokenizer without merges: 256 bytes and three special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_llama(*, tied: bool = True, seed: int = 0, hidden: int = 32, layers: int = 2) -> Any:
    """A random Llama of about 30,000 parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)  # two threads on a busy machine are slower than one
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
            pad_token_id=0,
            eos_token_id=2,
            bos_token_id=None,
        )
    )


def tiny_ref(folder: Path, **kwargs: Any) -> ModelRef:
    """A tiny model saved with its tokenizer."""
    tiny_llama(**kwargs).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelRef(base=str(folder), version="policy@0", digest="tiny")


def example(i: int, *, scores: list[float] | None = None, target: int | None = -1) -> RankedExample:
    """Example number `i`: candidates of different lengths; by default the last one is the target."""
    scores = [0.0, 0.5, 1.0] if scores is None else scores
    responses = [TEXTS[(i + j) % len(TEXTS)] + " " * (i % 3) for j in range(len(scores))]
    return RankedExample(
        prompt_id=f"p{i}",
        messages=[Message(role="user", content=f"task {i} " + "x" * (i % 7))],
        responses=responses,
        scores=scores,
        target=len(scores) - 1 if target == -1 else target,
    )


def tiny_job(
    tmp: Path,
    start: ModelRef,
    examples: list[RankedExample],
    *,
    stop_after: int | None = None,
    seed: int = 7,
    log: list[tuple[int, int, dict[str, float]]] | None = None,
    **training: Any,
) -> TrainJob:
    """A job in `tmp`; metrics of each step are added to `log`, and it stops after `stop_after` steps."""
    taken = 0

    def report(done: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal taken
        taken += 1
        if log is not None:
            log.append((done, total, metrics))

    options: dict[str, Any] = {
        "lr": 1e-3,
        "batch_size": 4,
        "micro_batch_size": 2,
        "tuning": "full",
    } | training
    return TrainJob(
        examples=examples,
        start=start,
        reference=None,
        training=TrainingSpec(**options),
        seed=seed,
        work=tmp / "work",
        out=tmp / "out",
        # A step is reported after the trainer has asked whether to stop: hence one fewer.
        stopping=lambda: stop_after is not None and taken >= stop_after - 1,
        report=report,
    )


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }

"""Tokens per second of the transformers sampler beside `generate` in batches.

Both draw the same number of completions of the same prompts with the same budget on the same
model; machines differ and are shared, so read the ratio.

    python scripts/bench/sampling.py                       # tiny Llamas made on the spot
    python scripts/bench/sampling.py --model DIR --n 128   # a model of yours
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from itercli.records import Message, ModelRef
from itercli.sampling.base import Request, SamplingParams
from itercli.sampling.prompting import encode_prompt
from itercli.sampling.specs import TransformersSpec

WORDS = [
    "module",
    "input",
    "output",
    "assign",
    "wire",
    "reg",
    "always",
    "begin",
    "end",
    "case",
    "adder",
    "or",
]
# name: hidden size, layers, heads, KV heads, head width, vocabulary
SHAPES = {"1M": (128, 4, 2, 2, 64, 1024), "2M": (192, 4, 3, 3, 64, 1536), "12M": (384, 6, 6, 2, 64, 4096)}


def make_model(folder: Path, shape: str) -> None:
    """A random Llama and a byte-level tokenizer; random weights end their answers at random."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    hidden, layers, heads, kv_heads, width, vocab = SHAPES[shape]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=width,
        max_position_embeddings=2048,
        eos_token_id=0,
        bos_token_id=None,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def bench(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rng = random.Random(0)
    prompts = [
        (Message(role="user", content=" ".join(rng.choices(WORDS, k=rng.randint(10, 60)))),)
        for _ in range(args.prompts)
    ]
    params = SamplingParams(
        temperature=args.temperature, max_new_tokens=args.max_new_tokens, top_k=args.top_k
    )
    requests = [
        Request((str(p), i), messages, 1000 * p + i, params)
        for p, messages in enumerate(prompts)
        for i in range(args.n)
    ]
    spec = TransformersSpec(batch_size=args.batch_size, threads=args.threads, device=args.device)
    sampler = spec.build()
    sampler.load(ModelRef(base=str(folder), version="policy@0", digest="0"))

    def ours() -> int:
        return sum(row.tokens for row in sampler.generate(requests, lambda: False))

    device, dtype = sampler.device, sampler.dtype  # type: ignore[attr-defined]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device=device).eval()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]

    def theirs() -> int:
        total = 0
        for start in range(0, len(requests), args.batch_size):
            rows = [encode_prompt(tokenizer, r.messages) for r in requests[start : start + args.batch_size]]
            batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(device)
            out = model.generate(
                **batch,
                do_sample=True,
                temperature=args.temperature,
                top_k=args.top_k,
                top_p=1.0,
                max_new_tokens=args.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )[:, batch["input_ids"].shape[1] :]
            is_end = torch.isin(out, torch.tensor(ends, device=out.device))
            ended = is_end.any(1)
            total += int(torch.where(ended, is_end.int().argmax(1) + 1, out.shape[1]).sum())
        return total

    rates: dict[str, list[float]] = {"itercli": [], "generate": []}
    # Alternating, so that a busy neighbour hits both; the best of each counts.
    for _ in range(args.repeats):
        for name, run in (("itercli", ours), ("generate", theirs)):
            start = time.perf_counter()
            tokens = run()
            rates[name].append(tokens / (time.perf_counter() - start))
    best = {name: round(max(values), 1) for name, values in rates.items()}
    sampler.close()
    return {**best, "ratio": round(best["itercli"] / best["generate"], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder of a model instead of the tiny ones")
    parser.add_argument("--shapes", nargs="+", default=["1M", "2M"], choices=sorted(SHAPES))
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--n", type=int, default=8, help="completions per prompt")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"model": args.model}
        if args.model is None:
            folders = {shape: Path(temporary) / shape for shape in args.shapes}
            for shape, folder in folders.items():
                make_model(folder, shape)
        for name, folder in folders.items():
            print(json.dumps({"model": name, **bench(folder, args)}), flush=True)


if __name__ == "__main__":
    main()

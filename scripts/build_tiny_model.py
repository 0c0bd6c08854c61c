"""Build the tiny RTL model that ships in itercli/models/tiny_rtl, from scratch on a CPU.

It trains a byte-level BPE tokenizer and a small Llama on the `pretrain` split of the
procedural RTL tasks. A known share of the answers carries an injected bug, so the model is
imperfect on purpose: it knows the language and the tasks, and often slips, which leaves a
self-training loop something to improve. With no bugs the same model memorises, and a loop
on top of it shows nothing.

    python scripts/build_tiny_model.py --out itercli/models/tiny_rtl

The result depends on the seed and the options, not on the clock, unless --minutes cuts
training short.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tiny_llama import END, IGNORED, Batch, Size, build_model, build_tokenizer, collate, save, train
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from itercli.data.rtl_tasks import RtlTasks, Task, inject_bug, split_digest, splits
from itercli.data.rtl_tasks.task import stable_hash
from itercli.records import Prompt
from itercli.verifiers.passk import mean_pass_at_k
from itercli.verifiers.verilog import VerilogVerifier

# Digits one by one, so that unseen numbers are spelled from known pieces; `:0]` and the indent
# of a line are so frequent that a piece of their own shortens every answer.
PIECES = r":0\]|\n *| ?[A-Za-z_]+| ?\d| ?[^\sA-Za-z_\d]+|\s+"


@dataclass(frozen=True)
class Recipe(Size):
    """What determines the model; the defaults built the shipped one.

    Attributes:
        bug_rate: Mean share of broken answers, once they start.
        bug_spread: How far a template's own share may lie from the mean.
        clean_share: First part of training that sees only right answers. The tasks are learned
            faster there than under noise, and the bugs come as a habit on top, which is what a
            loop can unlearn.
    """

    bug_rate: float = 0.65
    bug_spread: float = 0.3
    clean_share: float = 0.5


def bug_rate_of(template: str, recipe: Recipe) -> float:
    """Share of broken answers in a template: the templates differ, around the mean.

    Where nearly all answers are broken the first samples rarely pass, so that later
    iterations of a loop still find something.
    """
    position = stable_hash("bug rate", template) / 2**64
    return min(1.0, max(0.0, recipe.bug_rate + recipe.bug_spread * (2 * position - 1)))


def pretrain_tasks() -> list[tuple[Task, Prompt]]:
    """Every task of the `pretrain` split in all its wordings."""
    by_id = {f"rtl/{task.id}": task for task in splits()["pretrain"]}
    prompts = RtlTasks(split="pretrain", wordings=3).prompts()
    return [(by_id[prompt.id.rsplit("/", 1)[0]], prompt) for prompt in prompts]


def draw_answer(task: Task, recipe: Recipe, rng: random.Random) -> str:
    """The reference, or with the template's bug rate a broken version of it."""
    return inject_bug(task, rng) if rng.random() < bug_rate_of(task.template, recipe) else task.code


def chat_prompt(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> str:
    """The prompt as text, up to where the assistant begins."""
    return tokenizer.apply_chat_template(
        [m.model_dump() for m in prompt.messages], add_generation_prompt=True, tokenize=False
    )


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[Batch]:
    """Endless (input ids, labels); answers are drawn anew each time, prompts carry no loss."""
    rng = random.Random(recipe.seed)
    asks = [(task, _encode(tokenizer, chat_prompt(tokenizer, prompt))) for task, prompt in pretrain_tasks()]
    step = 0
    while True:
        rng.shuffle(asks)
        # Rows of like length together: little padding, and the order stays random.
        epoch = []
        for start in range(0, len(asks), recipe.batch * 16):
            part = asks[start : start + recipe.batch * 16]
            part.sort(key=lambda row: len(row[1]) + len(row[0].code) // 3)
            epoch += [part[i : i + recipe.batch] for i in range(0, len(part), recipe.batch)]
        rng.shuffle(epoch)
        for group in epoch:
            clean = step < recipe.clean_share * recipe.steps
            answers = [task.code if clean else draw_answer(task, recipe, rng) for task, _ in group]
            rows = []
            for (_, ask), answer in zip(group, answers, strict=True):
                target = _encode(tokenizer, answer + END)
                rows.append((ask + target, [IGNORED] * len(ask) + target))
            yield collate(rows, tokenizer.pad_token_id)
            step += 1


def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


@torch.no_grad()
def sample(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[Prompt],
    n: int,
    temperature: float,
    seed: int,
) -> list[list[str]]:
    """`n` completions for each prompt, in batches of like length."""
    torch.manual_seed(seed)
    asks = [chat_prompt(tokenizer, p) for p in prompts]
    rows = sorted((i for i in range(len(prompts)) for _ in range(n)), key=lambda i: (len(asks[i]), i))
    answers: list[list[str]] = [[] for _ in prompts]
    for start in range(0, len(rows), 96):
        part = rows[start : start + 96]
        inputs = tokenizer(
            [asks[i] for i in part], return_tensors="pt", padding=True, add_special_tokens=False
        )
        output = model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            max_new_tokens=256,
        )
        texts = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        for i, text in zip(part, texts, strict=True):
            answers[i].append(text)
    return answers


def measure(out: Path, split: str, limit: int, temperature: float, seed: int) -> str:
    """pass@1 and pass@5 of the saved model on a split, judged by the package's verifier."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    prompts = list(RtlTasks(split=split, limit=limit, seed=seed).prompts())
    answers = sample(model, tokenizer, prompts, 5, temperature, seed)
    verifier = VerilogVerifier()

    def right(i: int) -> list[bool]:
        return [verifier.check(prompts[i], answer).passed for answer in answers[i]]

    with ThreadPoolExecutor(2) as pool:
        results = dict(zip((p.id for p in prompts), pool.map(right, range(len(prompts))), strict=True))
    one, five = (mean_pass_at_k(results, k) for k in (1, 5))
    return f"{split}: pass@1 {one:.3f}, pass@5 {five:.3f} ({len(prompts)} prompts, T={temperature})"


def main() -> None:
    """Command line."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--steps", type=int, default=defaults.steps, help=f"default {defaults.steps}")
    parser.add_argument("--minutes", type=float, help="stop training after so long (then not reproducible)")
    parser.add_argument(
        "--bug-rate",
        type=float,
        default=defaults.bug_rate,
        help=f"mean share of broken answers, default {defaults.bug_rate}",
    )
    parser.add_argument("--threads", type=int, default=1, help="default 1; more is slower on a busy machine")
    parser.add_argument("--fp32", action="store_true", help="no bf16 autocast, for a CPU without AMX")
    parser.add_argument("--eval-prompts", type=int, default=200, help="prompts per split to measure; 0: none")
    parser.add_argument("--temperature", type=float, default=0.8, help="of the measurement")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    recipe = replace(defaults, seed=args.seed, steps=args.steps, bug_rate=args.bug_rate, bf16=not args.fp32)
    rng = random.Random(recipe.seed)
    pairs = [(p.messages[0].content, draw_answer(task, recipe, rng)) for task, p in pretrain_tasks()]
    tokenizer = build_tokenizer((text for pair in pairs for text in pair), recipe.vocab, PIECES)
    model = build_model(tokenizer, recipe)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    started = time.monotonic()
    steps = train(model, batches(tokenizer, recipe), recipe, args.minutes)
    print(f"{steps} steps in {time.monotonic() - started:.0f} s")
    sha = split_digest("pretrain")
    save(model, tokenizer, replace(recipe, steps=steps), args.out, pretrain_sha256=sha)
    if args.eval_prompts:
        for split in ("dev", "test", "test_templates"):
            print(measure(args.out, split, args.eval_prompts, args.temperature, seed=0), flush=True)


if __name__ == "__main__":
    main()

"""Build the tiny TextCraft model that ships in itercli/models/tiny_textcraft, from scratch on a CPU.

It trains a byte-level BPE tokenizer and a small Llama on games of a scripted player: goals of the
train split that the default run leaves alone, and made-up recipe books. First the player is perfect;
then it slips now and then and seldom finds back, so the model is imperfect on purpose: it knows the
game, makes mistakes, and hardly recovers from them.

    python scripts/build_textcraft_model.py --out itercli/models/tiny_textcraft

The result depends on the seed and the options, not on the clock, unless --minutes cuts
training short.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tiny_llama import IGNORED, Batch, Size, build_model, build_tokenizer, collate, save, train
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from textcraft_lessons import Book, Habits, made_up, play

from itercli.data.textcraft import TextCraftTasks
from itercli.environments.textcraft_files import load_rules, recipe_folder
from itercli.records import Dialogue

# Numbers and names are of whole words; an amount is one token, a command a dozen.
PIECES = r"\n+| ?[A-Za-z_]+| ?\d+| ?[^\sA-Za-z_\d]+|\s+"
PLAIN = Habits()


@dataclass(frozen=True)
class Recipe(Size):
    """What determines the model; the defaults built the shipped one.

    Attributes:
        first_goal: Of the train split's goals up to `max_depth`, those before it are left to loops.
        made_up: Share of games in made-up books.
        lr: With 3e-3 copying is never learnt.
        copy_steps: Before all else: lists of names said twice, at last in another order.
        clean_share: First part of training with a perfect player. The loss then is on the
            replies as well, which teaches to copy sooner.
        slip, recover, wander: See `Habits`; of the second part.
    """

    steps: int = 1600
    batch: int = 16
    lr: float = 1e-3
    vocab: int = 1152
    first_goal: int = 140
    max_depth: int = 2
    made_up: float = 0.6
    copy_steps: int = 300
    clean_share: float = 0.75
    slip: float = 0.15
    recover: float = 0.1
    wander: int = 8


def real_book(recipe: Recipe) -> Book:
    """The real rules, with the goals that are this model's."""
    tasks = TextCraftTasks(split="train", max_depth=recipe.max_depth, offset=recipe.first_goal)
    return Book(load_rules(recipe_folder()), [prompt.meta["task"]["goal"] for prompt in tasks.prompts()])


def games(book: Book, recipe: Recipe, habits: Habits, rng: random.Random) -> Iterator[Dialogue]:
    """Endless games, real and made up."""
    while True:
        where = made_up(book.vocabulary, rng) if rng.random() < recipe.made_up else book
        game = play(where, rng.choice(where.goals), habits, rng)
        if game is not None:
            yield game


def encode(tokenizer: PreTrainedTokenizerFast, game: Dialogue, replies: bool) -> tuple[list[int], list[int]]:
    """Ids up to the last learnt turn, and labels: the player's turns, with `replies` all but the list."""
    chat = [message.model_dump() for message in game.messages]
    out = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = out["input_ids"], out["assistant_masks"]
    first = mask.index(1)
    labels = [
        x if m or (replies and n > first) else IGNORED for n, (x, m) in enumerate(zip(ids, mask, strict=True))
    ]
    return ids, labels


def copying(
    tokenizer: PreTrainedTokenizerFast, book: Book, shuffled: bool, rng: random.Random
) -> tuple[list[int], list[int]]:
    """Amounts and names, then the same again: from this, looking up and copying come within minutes."""
    names = [
        f" {rng.randint(1, 9)} {' '.join(rng.sample(book.vocabulary, rng.choice((1, 2, 2))))},"
        for _ in range(6)
    ]
    first = tokenizer("".join(names)).input_ids
    if shuffled:
        rng.shuffle(names)
    again = tokenizer("".join(names)).input_ids
    return first + again, [IGNORED] * len(first) + again


def batches(tokenizer: PreTrainedTokenizerFast, book: Book, recipe: Recipe) -> Iterator[Batch]:
    """Endless batches; games of like length together, since padding costs as much as text."""
    rng = random.Random(recipe.seed)
    clean = games(book, recipe, PLAIN, rng)
    slips = games(book, recipe, Habits(recipe.slip, recipe.recover, recipe.wander), rng)
    for n in range(recipe.copy_steps):
        shuffled = n >= 0.8 * recipe.copy_steps
        rows = [copying(tokenizer, book, shuffled, rng) for _ in range(recipe.batch)]
        yield collate(rows, tokenizer.pad_token_id)
    step = recipe.copy_steps
    while True:
        perfect = step < recipe.clean_share * recipe.steps
        source = clean if perfect else slips
        rows = sorted(
            (encode(tokenizer, next(source), perfect) for _ in range(recipe.batch * 8)),
            key=lambda r: len(r[0]),
        )
        groups = [rows[i : i + recipe.batch] for i in range(0, len(rows), recipe.batch)]
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, tokenizer.pad_token_id)
            step += 1


def main() -> None:
    """Command line."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the build")
    parser.add_argument("--minutes", type=float, help="stop training after so long (then not reproducible)")
    parser.add_argument("--threads", type=int, default=1, help="default 1; more is slower on a busy machine")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    changes = dict(item.split("=", 1) for item in args.set)
    recipe = replace(defaults, **{k: type(getattr(defaults, k))(float(v)) for k, v in changes.items()})
    book = real_book(recipe)
    sample = games(book, recipe, PLAIN, random.Random(recipe.seed))
    texts = (message.content for _ in range(6000) for message in next(sample).messages)
    tokenizer = build_tokenizer(texts, recipe.vocab, PIECES)
    model = build_model(tokenizer, recipe)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    started = time.monotonic()
    steps = train(model, batches(tokenizer, book, recipe), recipe, args.minutes)
    print(f"{steps} steps in {time.monotonic() - started:.0f} s")
    goals = hashlib.sha256("\n".join(book.goals).encode()).hexdigest()
    save(model, tokenizer, replace(recipe, steps=steps), args.out, goals_sha256=goals)


if __name__ == "__main__":
    main()

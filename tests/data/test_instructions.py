"""The shipped instructions: what a recipe gets, and that seeds and held-out ones differ."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise, product

import pytest

from itercli.data.instructions import Instructions

SIZES = {("seeds", "en"): 16, ("seeds", "zh"): 10, ("heldout", "en"): 48, ("heldout", "zh"): 16}
COUNTS = {(kind, *key): n for kind in ("long", "paragraph") for key, n in SIZES.items()}
LENGTH = re.compile(r"\d|\b(thousand|hundred) words|千字|万字|百字")


def texts(kind: str, split: str, language: str) -> list[str]:
    source = Instructions.model_validate({"kind": kind, "split": split, "language": language})
    return [p.messages[0].content for p in source.prompts()]


@pytest.mark.parametrize(("kind", "split", "language"), COUNTS)
def test_each_file(kind: str, split: str, language: str) -> None:
    source = Instructions.model_validate({"kind": kind, "split": split, "language": language})
    prompts = list(source.prompts())
    assert len({p.id for p in prompts}) == len(prompts) == SIZES[split, language]
    assert all(p.meta["language"] == language and p.reference is None for p in prompts)
    assert all(p.messages[0].content[-1] in ".。" for p in prompts)
    chinese = [bool(re.search(r"[\u4e00-\u9fff]", p.messages[0].content)) for p in prompts]
    assert set(chinese) == {language == "zh"}
    assert source.fingerprint().keys() == {f"{kind}_{split}_{language}.jsonl"}


def test_none_asks_for_a_length() -> None:
    for key in COUNTS:
        assert not [t for t in texts(*key) if LENGTH.search(t)]


# Words that frame a topic and are none: "what makes a good neighbour", "what makes a team work well".
FRAMES = frozenset({"first", "good", "hand", "made", "makes", "matters", "winter", "year"})


def closest(kind: str, language: str, heldout: list[str]) -> tuple[float, str, str]:
    """The seed and the held-out text that share most of the smaller one's topic, and how much."""
    seeds = texts(kind, "seeds", language)

    def units(text: str) -> set[str]:
        # Words of four letters or more; character pairs where there are no spaces.
        words = set(re.findall(r"[a-z]{4,}", text.lower())) - FRAMES
        return words if language == "en" else {a + b for a, b in pairwise(text)}

    # What many have in common ("write", "people", "一篇") is no topic.
    counts = Counter(u for t in (*seeds, *heldout) for u in units(t))

    def overlap(a: str, b: str) -> float:
        topics = [{u for u in units(text) if counts[u] <= 3} for text in (a, b)]
        return len(topics[0] & topics[1]) / max(1, min(map(len, topics)))

    return max((overlap(a, b), a, b) for a, b in product(seeds, heldout))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", ["long", "paragraph"])
def test_held_out_topics_are_not_those_of_the_seeds(kind: str, language: str) -> None:
    heldout = texts(kind, "heldout", language)
    assert closest(kind, language, heldout)[0] < 0.4, closest(kind, language, heldout)


@pytest.mark.parametrize(
    ("language", "again"),
    [("en", "Tell me how old maps are made."), ("zh", "请写一段话，主题是面包怎样做成。")],
)
def test_a_seed_in_other_words_is_noticed(language: str, again: str) -> None:
    worst = closest("paragraph", language, [*texts("paragraph", "heldout", language), again])
    assert worst[0] >= 0.4
    assert worst[2] == again


def test_limit_keeps_the_first() -> None:
    source = Instructions(split="heldout", limit=3)
    assert [p.messages[0].content for p in source.prompts()] == texts("long", "heldout", "en")[:3]
    ids = [p.id for p in source.prompts()]
    assert ids == ["heldout-en-01", "heldout-en-02", "heldout-en-03"]

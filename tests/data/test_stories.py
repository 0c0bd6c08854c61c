"""Story openings: as many as promised, and nobody of one split in another."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

from itercli.data.stories import PEOPLE, Split, Stories


def test_splits_share_no_person_and_no_prompt() -> None:
    found = {split: list(Stories(split=split).prompts()) for split in get_args(Split)}
    assert {s: len(p) for s, p in found.items()} == {"labelled": 1152, "train": 1536, "heldout": 768}
    for a, b in combinations(found, 2):
        assert not set(PEOPLE[a]) & set(PEOPLE[b])
        assert not {p.id for p in found[a]} & {p.id for p in found[b]}
    for rows in found.values():
        assert len({p.id for p in rows}) == len({p.messages[0].content for p in rows}) == len(rows)


def test_the_order_is_fixed_and_mixed() -> None:
    first = [p.meta["person"] for p in Stories(split="train", limit=12).prompts()]
    assert first == [p.meta["person"] for p in Stories(split="train").prompts()][:12]
    assert len(set(first)) > 4

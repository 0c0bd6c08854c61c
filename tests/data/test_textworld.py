"""TextWorld's tasks: seeds by split."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from itercli.data import textworld
from itercli.data.textworld import TextWorldTasks
from itercli.environments.textworld import Game


def test_a_row_holds_its_whole_game() -> None:
    (prompt,) = TextWorldTasks(split="test", rooms=2, quests=3, limit=1, offset=4).prompts()
    assert prompt.id == "textworld/r2-o10-l5-q3/2000004"
    assert prompt.meta["environment"] == "textworld"
    assert Game(**prompt.meta["task"]) == Game(seed=2_000_004, rooms=2, quests=3)


def test_splits_share_no_seed() -> None:
    seeds = [p.meta["task"]["seed"] for s in textworld.FIRST_SEED for p in TextWorldTasks(split=s).prompts()]
    assert len(set(seeds)) == len(seeds) == 300


def test_a_split_ends_where_the_next_one_begins() -> None:
    (last,) = TextWorldTasks(split="train", offset=999_999, limit=1).prompts()
    assert last.meta["task"]["seed"] == textworld.FIRST_SEED["dev"] - 1
    for offset, limit in ((1_000_000, 1), (999_999, 2)):
        with pytest.raises(ValidationError, match=rf"offset {offset} and limit {limit} reach into"):
            TextWorldTasks(split="train", offset=offset, limit=limit)


def test_planning_asks_for_the_version_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textworld, "package_version", lambda: "1.7.0")
    assert TextWorldTasks().fingerprint() == {"textworld": "1.7.0"}

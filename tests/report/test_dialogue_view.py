"""What `iter samples` shows of dialogues: turns, which are trained on, and their origin."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from itercli.records import Dialogue, Message
from itercli.report.samples import Query, choose, page
from tests.report.test_episode_view import HOSTILE, shown
from tests.report.test_sample_view import PROMPT, Rows

REVISE = "iteration-01/revise"
TURNS = ["Find the key.", "Action: west", "A wall.", HOSTILE, "ok.", "Action: east"]


def dialogue(index: int, origin: str, *learnt: int, **meta: Any) -> Dialogue:
    return Dialogue(
        prompt_id=PROMPT.id, index=index, origin=origin, meta=meta,
        messages=[Message(role=("user", "assistant")[n % 2], content=text) for n, text in enumerate(TURNS)],  # type: ignore[arg-type]
        loss=[n in learnt for n in range(len(TURNS))],
    )  # fmt: skip


ROWS = [
    dialogue(0, "revision", 3, 5, environment="house", judge=["good", "bad"], why="\x1b[2J" + "x" * 150),
    dialogue(1, "good", 1, 3, 5),
    dialogue(2, "general"),
]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    found = Rows(tmp_path)
    found.add(REVISE, "dialogues", ROWS)
    return found


def test_a_dialogue_is_told_turn_by_turn(rows: Rows) -> None:
    text = shown(rows, REVISE, limit=1)
    assert "3 dialogues: 1 revision, 1 good, 1 general" in text
    assert "i1/00003 #0  revision  2 of 3 answers trained on" in text
    assert 'judge ["good", "bad"]' in text
    at = [text.index(part) for part in (
        "1 user\n  Find the key.", "2 assistant: not trained on\n  Action: west", "3 user\n  A wall.",
        "4 assistant: trained on\n  open [red]door[/]\n  look", "5 user\n  ok.",
        "6 assistant: trained on\n  Action: east",
    )]  # fmt: skip
    assert at == sorted(at)
    assert "why" + "x" * 100 + "..." in "".join(text.split())
    assert "..." not in shown(rows, REVISE, limit=1, lines=None)


def test_origins_are_a_condition_like_outcomes(rows: Rows) -> None:
    only = shown(rows, REVISE, outcome="good")
    assert only.count("answers trained on") == 1
    assert "3 of 3" in only
    assert "0 of 3 answers trained on" in shown(rows, REVISE, outcome="general")
    assert choose(rows.run, stage="revise", iteration=1, judged=Query(outcome="good").judges) == REVISE


def test_json_has_the_rows_as_they_are(rows: Rows) -> None:
    samples = asdict(page(rows.run, REVISE, Query(offset=1, limit=1)))["samples"]
    assert samples == [{"prompt_id": PROMPT.id, "dialogue": ROWS[1].model_dump(mode="json")}]


def test_rows_of_an_unfinished_stage_are_dialogues_too(rows: Rows) -> None:
    rows.add("iteration-02/revise", "dialogues", ROWS[:1], done=False)
    text = shown(rows, "iteration-02/revise")
    assert "unfinished: the rows so far" in text
    assert "2 of 3 answers trained on" in text

"""What `iter samples` shows of preference pairs."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from itercli.records import Message, PreferencePair, Score
from itercli.report.sample_view import show_page
from itercli.report.samples import Query, choose, page
from tests.report.test_sample_view import PROMPT, Rows

NODE = "iteration-01/pairs"


def made(index: int = 0, **fields: Any) -> PreferencePair:
    return PreferencePair(**{
        "prompt_id": PROMPT.id, "index": index, "messages": [Message(role="user", content="About tides.")],
        "chosen": "High water comes twice.", "rejected": "It is wet.",
        "sources": ("reference", "policy@2"), "origin": "best_worst",
    } | fields)  # fmt: skip


EASY = made(
    0, rewards=(1.5, 0.25), probabilities=[(0.9, 0.1), (0.7, 0.3)], bald=0.0321, vote=1.0, alpha=0.0139,
    origin="easy", reason="easy", meta={"rule": "best_worst", "flipped": False},
)  # fmt: skip
DROPPED = made(1, kept=False, reason="disagreement", rewards=(1.0, 0.5))
BARE = made(2)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    found = Rows(tmp_path)
    found.add("iteration-01/propose", "prompts", [PROMPT])
    found.add(NODE, "pairs", [EASY, DROPPED, BARE], needs=["iteration-01/propose"])
    return found


def shown(rows: Rows, width: int = 80, lines: int | None = 40, **query: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    show_page(console, page(rows.run, NODE, Query(**query)), "r", offset=0, lines=lines)
    assert max(map(len, out.getvalue().splitlines())) <= width
    return out.getvalue()


def test_a_pair_is_shown_with_all_that_decided_on_it(rows: Rows) -> None:
    text = shown(rows, outcome="easy")
    assert "1 to 1 of 1 that match" in text
    for part in (
        "3 pairs: 1 easy, 1 disagreement, 1 without a reason", "i1/00003 #0  kept: easy", "About tides.",
        "rewards 1.5, 0.25  margin 1.25", "probability 0.8 over 2 passes  BALD 0.0321  vote 1",
        "origin easy  alpha 0.0139  weight 1  rule best_worst  flipped false",
        "chosen reference", "rejected policy@2", "High water comes twice.", "It is wet.",
    ):  # fmt: skip
        assert part in text, part


def test_dropped_pairs_and_pairs_without_rewards(rows: Rows) -> None:
    text = shown(rows)
    assert "#1  dropped: disagreement" in text
    assert "#2  kept\n" in text.replace(" ─", "\n")
    assert text.count("margin") == 2
    assert text.count("BALD") == 1


def test_answers_stand_side_by_side_and_are_clipped(tmp_path: Path) -> None:
    found = Rows(tmp_path)
    long = made(chosen="\n".join(f"line {n}" for n in range(200)), rejected="short \x1b[2J[red]x[/]")
    found.add(NODE, "pairs", [long])
    text = shown(found, lines=5)
    assert any("line 0" in line and "short [red]x[/]" in line for line in text.splitlines())
    assert "line 5" not in text
    assert "--full" in text
    assert "\x1b" not in text
    assert "line 199" in shown(found, lines=None)


def test_json_has_the_row_with_margin_and_mean_probability(rows: Rows) -> None:
    found = asdict(page(rows.run, NODE, Query()))
    assert (found["kind"], found["outcomes"]) == ("pairs", {"easy": 1, "disagreement": 1, "": 1})
    easy, dropped, bare = (sample["pair"] for sample in found["samples"])
    added = {"margin": 1.25, "probability": pytest.approx(0.8)}
    assert easy == EASY.model_dump(mode="json") | added
    assert (dropped["margin"], dropped["probability"]) == (0.5, None)
    assert (bare["margin"], bare["rewards"], bare["probabilities"]) == (None, None, [])


def test_pairs_can_be_asked_for_by_reason_but_have_no_verdict(rows: Rows) -> None:
    assert page(rows.run, NODE, Query(outcome="disagreement")).matched == 1
    assert choose(rows.run, stage="pairs", iteration=1, judged=Query(outcome="easy").judges) == NODE
    with pytest.raises(LookupError, match="pairs has no verdicts"):
        choose(rows.run, stage="pairs", iteration=1, judged=Query(passed=False).judges)
    score = Score(prompt_id=PROMPT.id, index=0, completion="c", policy="p@0", value=0)
    rows.add("iteration-01/score", "scores", [score])
    assert choose(rows.run, stage=None, iteration=None) == "iteration-01/score"

"""What `iter samples` shows of episodes and search trees."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from itercli.records import Call, Episode, Message, Node, Tree, Turn
from itercli.report.episode_view import best_path
from itercli.report.sample_view import show_page
from itercli.report.samples import Query, choose, page
from tests.report.test_sample_view import PROMPT, Rows

PLAY, SEARCH = "iteration-01/play", "iteration-01/search"
OPENING = [Message(role="user", content="Find the key.")]
HOSTILE = "open \x1b[2J[red]door[/]\nlook"


def turn(action: str, score: float = 0.0, **fields: Any) -> Turn:
    return Turn(
        **{"text": f"Action: {action}", "action": action, "observation": "Done."} | fields, score=score
    )


EPISODE = Episode(
    prompt_id=PROMPT.id, index=3, seed=1, policy="policy@2", opening=OPENING, score=0.5, finish="turns",
    tokens=40, meta={"environment": "house", "given": 1},
    turns=[
        turn("go north", loss=False), turn(HOSTILE, 0.5, reward=0.5, left_out=1, info={"error": "it\nbroke"}),
    ],
)  # fmt: skip
CALL = Call(
    prompt_id=f"{PROMPT.id}#0", index=0, seed=1, completion="Action: look", finish="stop", tokens=2,
    policy="policy@2", step="act", meta={"action": "look", "observation": "Dark."},
)  # fmt: skip


def node(id: int, parent: int | None, action: str = "", score: float = 0.0, **fields: Any) -> Node:
    return Node(id=id, parent=parent, turn=turn(action, score) if action else None, **fields)


TREE = Tree(
    prompt_id=PROMPT.id, seed=1, policy="policy@2", opening=OPENING, simulations=2, tokens=9,
    meta={"environment": "house", "best": 1.0, "counts": {"duplicates": 4}},
    nodes=[
        node(0, None, visits=3, value=1.5, closed=True),
        node(1, 0, "west", visits=2, value=1.5, closed=True),
        node(2, 0, HOSTILE, visits=1, closed=True, terminal=True),
        node(3, 1, "take", 0.5, visits=1, value=0.5, closed=True, terminal=True),
        node(4, 1, "unlock", 1.0, visits=1, value=1.0, closed=True, terminal=True),
        node(5, 1, "sit"),
    ],
)  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    found = Rows(tmp_path)
    found.add("iteration-01/tasks", "prompts", [PROMPT])
    found.add(PLAY, "episodes", [EPISODE], needs=["iteration-01/tasks"])
    found.add(SEARCH, "trees", [TREE], needs=["iteration-01/tasks"])
    return found


def shown(rows: Rows, node: str, width: int = 80, lines: int | None = 40, **query: Any) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    asked = Query(**query)
    show_page(console, page(rows.run, node, asked), "r", offset=0, lines=lines, trees=asked.trees)
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert "\x1b" not in out.getvalue()
    return out.getvalue()


def test_an_episode_is_told_turn_by_turn(rows: Rows) -> None:
    text = shown(rows, PLAY)
    for part in (
        "1 episodes: 1 turns", "i1/00003 #3  score 0.5  turns", "Find the key.",
        "policy@2  house  2 turns  1 of them given  40 tokens",
        "turn 1: reward 0, score 0, not trained on", "  go north", "  Action: go north", "  Done.",
        "turn 2: reward +0.5, score 0.5, 1 oldest turns left out, error: it broke", "  open [red]door[/]",
    ):  # fmt: skip
        assert part in text, part
    assert shown(rows, PLAY, outcome="turns").count("turn 2:") == 1
    assert page(rows.run, PLAY, Query(outcome="done")).matched == 0


def test_a_tree_is_drawn_with_what_the_search_knows(rows: Rows) -> None:
    text = shown(rows, SEARCH, trees=True)
    assert "i1/00003 #0  best 1  2 simulations, 6 nodes, used up" in text
    assert "policy@2  house  9 tokens  4 duplicates" in text
    drawn = [" ".join(line.split()) for line in text.splitlines()]
    start = drawn.index("action visits mean score")
    assert drawn[start + 1 : start + 7] == [
        "(start) 3 0.5 closed",
        "├ west 2 0.75 0 best closed",
        "│ ├ take 1 0.5 0.5 end",
        "│ ├ unlock 1 1 1 best end",
        "│ └ sit 0 - 0",
        "└ open [red]door[/] 1 0 0 end",
    ]


def test_without_being_drawn_a_tree_tells_its_best_way(rows: Rows) -> None:
    text = shown(rows, SEARCH)
    assert "the way to the best end; --tree draws all" in text
    assert [line for line in text.splitlines() if line.startswith("turn ")] == [
        "turn 1: reward 0, score 0", "turn 2: reward 0, score 1",
    ]  # fmt: skip
    assert "unlock" in text
    assert "take" not in text
    assert best_path([node(0, None).model_dump()]) == []


def test_deep_and_large_trees_fit_the_screen(tmp_path: Path) -> None:
    deep = [node(0, None), *(node(n, n - 1, f"step {n} " + "x" * 90) for n in range(1, 3000))]
    found = Rows(tmp_path)
    found.add(SEARCH, "trees", [TREE.model_copy(update={"nodes": deep[:25]})])
    text = shown(found, SEARCH, trees=True)
    assert "step 20" in text
    found.add("iteration-02/search", "trees", [TREE.model_copy(update={"nodes": deep})])
    assert "2995 more nodes, --full shows them" in shown(found, "iteration-02/search", lines=1, trees=True)
    assert "more nodes" not in shown(found, "iteration-02/search", lines=None, trees=True)


def test_json_has_the_rows_as_they_are(rows: Rows) -> None:
    (episode,) = asdict(page(rows.run, PLAY, Query()))["samples"]
    assert episode == {"prompt_id": PROMPT.id, "episode": EPISODE.model_dump(mode="json")}
    (tree,) = asdict(page(rows.run, SEARCH, Query(trees=True)))["samples"]
    assert tree == {"prompt_id": PROMPT.id, "tree": TREE.model_dump(mode="json")}


def test_under_way_the_rows_are_calls(rows: Rows) -> None:
    rows.add("iteration-02/play", "episodes", [CALL], done=False)
    text = shown(rows, "iteration-02/play")
    assert "call 0: act" in text
    assert "observation Dark." in text


def test_trees_are_found_without_naming_their_stage(rows: Rows) -> None:
    trees = Query(trees=True).judges
    assert choose(rows.run, stage=None, iteration=None, judged=trees) == SEARCH
    with pytest.raises(LookupError, match="play has no search trees; stages with trees: search"):
        choose(rows.run, stage="play", iteration=None, judged=trees)

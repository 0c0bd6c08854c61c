"""Episodes on a terminal, turn by turn; of a search tree, the way to its best end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from itercli.report.blocks import block, messages
from itercli.report.text import clean

Row = Mapping[str, Any]


def ending(episode: Row) -> Text:
    """``score 0.5  turns``: what was reached, and what ended it."""
    text = Text(f"score {number(episode.get('score'))}  ")
    finish = str(episode.get("finish", "?"))
    return text.append(clean(finish), {"done": "green", "error": "red"}.get(finish, "yellow"))


def show_episode(console: Console, episode: Row, lines: int | None) -> None:
    """Print an episode.

    Args:
        lines: Lines of each text that are shown; None for all.
    """
    meta = episode.get("meta") or {}
    turns = episode.get("turns") or []
    facts = [
        str(episode.get("policy", "")),
        str(meta.get("environment", "")),
        f"{len(turns)} turn{'s' * (len(turns) != 1)}",
    ]
    facts += [f"{meta['given']} of them given"] if meta.get("given") else []
    facts.append(f"{episode.get('tokens', '?')} tokens")
    console.print(Text(clean("  ".join(fact for fact in facts if fact)), "dim"))
    if meta.get("error"):
        block(console, "environment failed", str(meta["error"]), lines)
    messages(console, list(episode.get("opening") or []), lines)
    show_turns(console, turns, lines)


def show_turns(console: Console, turns: Sequence[Row], lines: int | None) -> None:
    """Print turns: what was written, done and seen."""
    for n, turn in enumerate(turns, 1):
        action, said = str(turn.get("action", "")), str(turn.get("text", ""))
        console.print(headline(n, turn))
        if said.strip() != action.strip():
            block(console, "answer", said, lines)
        block(console, "action", action or "(none)", lines)
        block(console, "observation", str(turn.get("observation", "")), lines)


def best_path(nodes: Sequence[Row]) -> list[Row]:
    """The nodes from the root to the first of the best ends; empty if there was no end."""
    ends = [node for node in nodes if node.get("terminal") and node.get("turn")]
    if not ends:
        return []
    path, at = [], max(ends, key=lambda node: node["turn"]["score"])
    while at["turn"]:
        path.append(at)
        at = nodes[at["parent"]]
    return path[::-1]


def number(value: Any) -> str:
    """A score in a few digits."""
    return f"{value:.3g}" if isinstance(value, int | float) else "?"


def headline(n: int, turn: Row) -> Text:
    """``turn 3: reward +0.25, score 0.5, done, not trained on``."""
    reward = turn.get("reward")
    facts = [f"reward {'+' if isinstance(reward, float) and reward > 0 else ''}{number(reward)}"]
    facts.append(f"score {number(turn.get('score'))}")
    facts += ["done"] if turn.get("done") else []
    facts += [f"{turn['left_out']} oldest turns left out"] if turn.get("left_out") else []
    facts += [] if turn.get("loss", True) else ["not trained on"]
    info = turn.get("info") or {}
    facts += [
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in info.items()
    ]
    return Text.assemble((f"turn {n}", "bold cyan"), ": ", clean(", ".join(facts)).replace("\n", " "))

"""Preference pairs on a terminal: both answers side by side, and why the pair was kept or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from itercli.report.extension_view import side_by_side
from itercli.report.text import clean

Row = dict[str, Any]
# Facts of a pair that are no measurements, shown if `meta` holds them.
NOTES = ("rule", "flipped", "swap_consistent")


def with_means(pair: Row) -> Row:
    """A pair's row with `margin` and `probability`, what follows from its rewards and passes."""
    rewards, passes = pair.get("rewards"), pair.get("probabilities")
    return pair | {
        "margin": rewards[0] - rewards[1] if rewards else None,
        "probability": sum(p[0] for p in passes) / len(passes) if passes else None,
    }


def decision(pair: Mapping[str, Any]) -> Text:
    """``kept: easy`` or ``dropped: disagreement``."""
    kept = pair.get("kept")
    text = Text("kept" if kept else "dropped", "green" if kept else "red")
    return text.append(f": {clean(str(pair['reason']))}" if pair.get("reason") else "")


def show_pair(console: Console, pair: Mapping[str, Any], lines: int | None) -> None:
    """Print what is known of a pair, then its answers.

    Args:
        lines: Lines of each answer that are shown; None for all.
    """
    for line in facts(pair):
        console.print(Text(clean("  ".join(line)), "dim"))
    sources = [*(pair.get("sources") or ()), "", ""]
    names = [
        f"{kind} {clean(str(by))}".strip() for kind, by in zip(("chosen", "rejected"), sources, strict=False)
    ]
    texts = dict(zip(names, (str(pair.get("chosen", "")), str(pair.get("rejected", ""))), strict=True))
    console.print(side_by_side(texts, console, lines))


def facts(pair: Mapping[str, Any]) -> list[list[str]]:
    """Rewards, the estimator's numbers and the label's, each as far as it is known."""
    return [line for line in (_reward(pair), _estimate(pair), _label(pair)) if line]


def _reward(pair: Mapping[str, Any]) -> list[str]:
    rewards = pair.get("rewards")
    return (
        [f"rewards {_number(rewards[0])}, {_number(rewards[1])}", f"margin {_number(pair['margin'])}"]
        if rewards
        else []
    )


def _estimate(pair: Mapping[str, Any]) -> list[str]:
    """What the estimator says of the chosen answer."""
    if not pair.get("probabilities"):
        return []
    return [
        f"probability {_number(pair['probability'])} over {len(pair['probabilities'])} passes",
        f"BALD {_number(pair.get('bald'))}",
        f"vote {_number(pair.get('vote'))}",
    ]


def _label(pair: Mapping[str, Any]) -> list[str]:
    meta = pair.get("meta") or {}
    facts = [f"origin {pair['origin']}"] if pair.get("origin") else []
    facts += [f"{name} {_number(pair[name])}" for name in ("alpha", "weight") if pair.get(name) is not None]
    return facts + [f"{name} {str(meta[name]).lower()}" for name in NOTES if name in meta]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "?"

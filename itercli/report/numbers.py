"""Metrics as text: fractions, words and scores of any size in a handful of digits."""

from __future__ import annotations

from typing import Any

NOTHING = "-"


def decimals(size: float) -> int:
    """Places after the point that leave about four digits: 0.398, 3.412, 31.24, 312.4, 3124."""
    places = 3
    while places and abs(size) >= 10 ** (4 - places):
        places -= 1
    return places


def number(value: float | None, like: float | None = None) -> str:
    """A number in about four digits; `like` gives the places of another one."""
    if value is None:
        return NOTHING
    return f"{value:.{decimals(value if like is None else like)}f}"


def interval(metric: dict[str, Any]) -> str:
    """`.34-.46`, `298-327`: one digit less than the value has, since four have to fit into 80 columns."""
    places = max(decimals(metric["value"]) - 1, 0)
    low, high = (_bare(f"{metric[end]:.{places}f}") for end in ("low", "high"))
    return f"{low}-{high}" if metric["low"] >= 0 else f"{low} to {high}"


def missing(metric: dict[str, Any]) -> str:
    """`, 3 missing` where prompts have no value."""
    return f", {metric['missing']} missing" if metric.get("missing") else ""


def _bare(text: str) -> str:
    """Without the zero before the point."""
    sign, digits = text[: text.startswith("-")], text.lstrip("-")
    return sign + (digits[1:] if digits.startswith("0.") else digits)

"""A text that grew in steps, on a terminal: what there was, stage A and stage B side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itercli.report.text import clean, clip


def grew_in_steps(meta: Mapping[str, Any]) -> bool:
    """Whether a trajectory's `meta` is that of an extension (`itercli.papers.self_lengthen.extend`)."""
    steps = meta.get("steps")
    return (
        isinstance(meta.get("draft"), str)
        and isinstance(steps, list)
        and all(isinstance(s, dict) and {"a", "b", "taken"} <= s.keys() for s in steps)
    )


def growth(meta: Mapping[str, Any]) -> str:
    """``118 -> 240 words (x2.03), 2 tries``."""
    tries = meta.get("tries", "?")
    return (
        f"{meta.get('draft_words', '?')} -> {meta.get('words', '?')} words (x{_number(meta.get('ratio'))}), "
        f"{tries} {'try' if tries == 1 else 'tries'}"
    )


def show_steps(console: Console, meta: Mapping[str, Any], lines: int | None) -> None:
    """Print the micro-steps of the successful try.

    Args:
        lines: Lines of each column; None for all.
    """
    text, name = meta["draft"], "draft"
    for number, step in enumerate(meta["steps"], 1):
        console.print(headline(number, step))
        console.print(side_by_side({name: text, "stage A": step["a"], "stage B": step["b"]}, console, lines))
        if step["taken"]:
            text, name = step["a"] + step["b"], f"text after step {number}"


def headline(number: int, step: Mapping[str, Any]) -> Text:
    """``step 1: 12 -> 31 words (x2.58), taken``."""
    words = f"{step.get('words_before', '?')} -> {step.get('words', '?')} words"
    line = Text.assemble((f"step {number}", "cyan"), f": {words} (x{_number(step.get('ratio'))}), ")
    if step["taken"]:
        return line.append("taken", "green")
    failed = ", ".join(map(str, step.get("failed") or ())) or "no reason given"
    return line.append(clean(f"turned down: {failed}"), "red")


def side_by_side(texts: Mapping[str, str], console: Console, lines: int | None) -> Table:
    """Texts in columns of equal width, cleaned; `lines` of each, None for all."""
    table = Table(box=box.MINIMAL, expand=True, pad_edge=False, header_style="dim")
    width = max(10, console.width // len(texts) - 3)
    cells = []
    for name, text in texts.items():
        table.add_column(name, ratio=1, overflow="fold")
        shown, left = clip(clean(str(text)).strip("\n"), lines, width)
        cell = Text(shown.expandtabs(4) or "(nothing)", "" if shown else "dim", overflow="fold")
        if left:
            cell.append(f"\n... {left} more characters, --full shows them", "dim")
        cells.append(cell)
    table.add_row(*cells)
    return table


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "?"

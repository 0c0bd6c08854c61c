"""Search trees on a terminal: actions with visits, mean values and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from itercli.report.blocks import messages
from itercli.report.episode_view import best_path, number, show_turns
from itercli.report.text import clean, first_line

Row = Mapping[str, Any]
PER_LINE = 5  # nodes that are drawn for each line that a text may have


def summary(tree: Row) -> Text:
    """``best 1  8 simulations, 57 nodes, used up``."""
    nodes = tree.get("nodes") or []
    best = (tree.get("meta") or {}).get("best")
    text = Text.assemble("best ", (number(best), "green" if best == 1 else ""))
    done = tree.get("simulations", "?")
    text.append(f"  {done} simulation{'s' * (done != 1)}, {len(nodes)} nodes")
    return text.append(", used up") if nodes and nodes[0]["closed"] else text


def show_tree(console: Console, tree: Row, lines: int | None, *, drawn: bool) -> None:
    """Print a search tree.

    Args:
        lines: Lines of each text that are shown; None for all.
        drawn: Draw the whole tree; else the way to its best end is told turn by turn.
    """
    meta, nodes = tree.get("meta") or {}, tree.get("nodes") or []
    facts = [
        str(tree.get("policy", "")),
        str(meta.get("environment", "")),
        f"{tree.get('tokens', '?')} tokens",
    ]
    facts += [f"{n} {name}" for name, n in (meta.get("counts") or {}).items()]
    console.print(Text(clean("  ".join(fact for fact in facts if fact)), "dim"))
    messages(console, list(tree.get("opening") or []), lines)
    if not drawn:
        path = best_path(nodes)
        console.print(Text("the way to the best end; --tree draws all" if path else "no end yet", "dim"))
        show_turns(console, [node["turn"] for node in path], lines)
    elif nodes:
        _draw(console, nodes, None if lines is None else PER_LINE * lines)


def _draw(console: Console, nodes: list[Row], most: int | None) -> None:
    """Draw a tree in a table, a line for each node, children in the order in which they were made."""
    children: dict[int, list[Row]] = {}
    for node in nodes[1:]:
        children.setdefault(node["parent"], []).append(node)
    best = {node["id"] for node in best_path(nodes)}
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("action", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("visits", "mean", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    # A stack, since trees may be deeper than Python's: (node, what stands before its action, and below it).
    todo: list[tuple[Row, str, str]] = [(nodes[0], "", "")]
    while todo and (most is None or table.row_count < most):
        node, guide, below = todo.pop()
        table.add_row(*_cells(node, guide, node["id"] in best))
        under = children.get(node["id"], [])
        for child in reversed(under):
            last = child is under[-1]
            todo.append((child, below + ("└ " if last else "├ "), below + ("  " if last else "│ ")))
    console.print(table)
    if len(nodes) > table.row_count:
        console.print(Text(f"... {len(nodes) - table.row_count} more nodes, --full shows them", "dim"))


def _cells(node: Row, guide: str, best: bool) -> tuple[Text, str, str, str, Text]:
    turn = node.get("turn") or {}
    action = first_line(str(turn.get("action", ""))) or "(none)" if turn else "(start)"
    visits = node["visits"]
    mean = number(node["value"] / visits) if visits else "-"
    said = Text(" ").join(Text(*mark) for mark in marks(node, best))
    name = Text.assemble((guide, "dim"), (action.expandtabs(4), "bold" if best else ""))
    return name, str(visits), mean, number(turn["score"]) if turn else "", said


def marks(node: Row, best: bool) -> list[tuple[str, str]]:
    """What is special about a node, each with a style.

    Args:
        best: Whether it lies on the way to the best end.
    """
    info = (node.get("turn") or {}).get("info") or {}
    found = [("best", "green")] if best else []
    found += [("end", "")] if node["terminal"] else [("closed", "dim")] if node["closed"] else []
    return found + [(name, "red") for name in ("disaster", "error") if name in info]

"""A layered drawing of a directed graph: ranks from top to bottom, few crossings (Sugiyama et al. 1981)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

Edge = tuple[str, str]
GAP = 18  # between nodes of a rank
LANE = 14  # width that an edge takes where it passes a rank
SWEEPS = 8


def layout(
    widths: Mapping[str, float], edges: Sequence[Edge]
) -> tuple[dict[str, tuple[float, int]], dict[Edge, list[tuple[float, int]]]]:
    """Place nodes and the bends of edges.

    Args:
        widths: Node -> its width.
        edges: Pairs of nodes, without cycles.

    Returns:
        Node -> (centre, rank), and edge -> points from its first node to its last.
    """
    edges = [
        edge
        for edge in dict.fromkeys(edges)
        if edge[0] in widths and edge[1] in widths and edge[0] != edge[1]
    ]
    rank = _ranks(list(widths), edges)
    size = dict(widths)
    chains: dict[Edge, list[str]] = {}
    for a, b in edges:
        bends = [f"{a}\0{b}\0{r}" for r in range(rank[a] + 1, rank[b])]
        size |= dict.fromkeys(bends, LANE)
        rank |= {name: rank[a] + 1 + n for n, name in enumerate(bends)}
        chains[a, b] = [a, *bends, b]
    links = [pair for chain in chains.values() for pair in itertools.pairwise(chain)]
    above: dict[str, list[str]] = {n: [] for n in size}
    below: dict[str, list[str]] = {n: [] for n in size}
    for a, b in links:
        above[b].append(a)
        below[a].append(b)
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=0) + 1)]
    for name in size:
        rows[rank[name]].append(name)
    x = {name: float(n) for row in rows for n, name in enumerate(row)}
    for sweep in range(SWEEPS):  # order: each node towards the middle of its neighbours
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            near = above if down else below
            row.sort(key=lambda name, near=near: _mean([x[n] for n in near[name]], x[name]))  # type: ignore[misc]
            x |= {name: float(n) for n, name in enumerate(row)}
    for row in rows:
        _place(row, dict.fromkeys(row, 0.0), size, x)
    for sweep in range(3 * SWEEPS):  # places: the same, without touching
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = {name: _mean([x[n] for n in near[name]], x[name]) for name in row}
            _place(row, wanted, size, x)
    left = min((x[n] - size[n] / 2 for n in size), default=0.0)
    points = {edge: [(x[n] - left, rank[n]) for n in chain] for edge, chain in chains.items()}
    return {n: (x[n] - left, rank[n]) for n in widths}, points


def _ranks(nodes: list[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The longest way from a source; a source stands just above what is made from it."""
    rank = dict.fromkeys(nodes, 0)
    for _ in nodes:
        moved = False
        for a, b in edges:
            if rank[b] <= rank[a]:
                rank[b], moved = rank[a] + 1, True
        if not moved:
            break
    for node in set(nodes) - {b for _, b in edges}:
        rank[node] = min((rank[b] - 1 for a, b in edges if a == node), default=0)
    return rank


def _place(
    row: list[str], wanted: Mapping[str, float], size: Mapping[str, float], x: dict[str, float]
) -> None:
    """Put a row's nodes where they want to be, in their order and apart."""
    groups: list[tuple[float, float, list[str]]] = []  # (sum of wanted starts, width, names)
    for name in row:
        half = size[name] / 2
        groups.append((wanted[name] - half, size[name] + GAP, [name]))
        while len(groups) > 1 and _start(groups[-2]) + groups[-2][1] > _start(groups[-1]):
            total, width, names = groups.pop()
            before, wide, first = groups.pop()
            groups.append((before + total - len(names) * wide, wide + width, first + names))
    for group in groups:
        at = _start(group)
        for name in group[2]:
            x[name] = at + size[name] / 2
            at += size[name] + GAP


def _start(group: tuple[float, float, list[str]]) -> float:
    return group[0] / len(group[2])


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise

"""The check of a plan: see `itercli.preflight`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from itercli.engine.store import Store
from itercli.preflight import lengths, models, needs
from itercli.preflight.rows import FIRST, Rows, Seen, pairs_error
from itercli.recipe.errors import Problem
from itercli.recipe.plan import Node, Plan
from itercli.stages.preferences import Preferences


def problems(
    plan: Plan, *, deep: bool, store: Store | None = None, due: Collection[str] | None = None
) -> list[Problem]:
    """Everything that is wrong, each thing once and located.

    Args:
        deep: Look at all rows of the data, not at the first ones.
        store: Prompts that are there already are read from here.
        due: Ids of the stages that are to run; None for all.
    """
    limit = None if deep else FIRST
    rows = Rows(plan, store, limit)
    nodes = [node for node in plan.nodes.values() if due is None or node.id in due]
    found: dict[tuple[str, str], Problem] = {}
    for p in models.problems(nodes, plan):
        found.setdefault((p.key, p.what), replace(p, where=plan.recipe.locate(p.key)))
    for node in nodes:
        for p in _node(node, plan, rows, limit):
            found.setdefault((p.key, p.what), replace(p, where=plan.recipe.locate(p.key)))
    return list(found.values())


def _node(node: Node, plan: Plan, rows: Rows, limit: int | None) -> Iterator[Problem]:
    key = f"{node.scope}.{node.name.split('.')[0]}"
    if isinstance(node.stage, Preferences) and (what := pairs_error(node.stage, limit)):
        yield Problem(f"{key}.path", what)
    if node.kind == "prompts" and (own := rows.of(node)) is not None:
        yield from (Problem(f"{key}.{_option(node)}", what) for what in own.errors)
    seen: list[Seen] = []
    for i in node.inputs.get("prompts", ()):
        one = rows.of(plan.nodes[i])
        if one is None:
            return
        seen.append(one)
    yield from needs.problems(node, plan, seen)
    yield from lengths.problems(node, plan, seen)


def _option(node: Node) -> str:
    """The option of the recipe that holds the source: a child is written in its parent's."""
    return "prompts" if "." in node.name else "source"

"""What a plan's stages will take from earlier artifacts, see `itercli.engine.lending`."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from itercli.engine.lending import Relatives
from itercli.engine.store import Store
from itercli.preflight.rows import FIRST, Rows
from itercli.recipe.plan import Node, Plan
from itercli.records import Prompt


def takes(plan: Plan, store: Store, due: Collection[str], *, deep: bool) -> Iterator[tuple[str, str]]:
    """Stages that find rows of unchanged prompts in the store, and how much, in words.

    Args:
        due: Ids of the stages that are to run.
        deep: Look at all prompts, also where there are many.
    """
    relatives = Relatives(store, {node.key: node.ingredients for node in plan.nodes.values()})
    rows = Rows(plan, store, None if deep else FIRST + 1)
    for i in due:
        node = plan.nodes[i]
        if not node.stage.ROWWISE:
            continue
        entry = store.entry(node.kind, node.key)
        for lender in relatives.of(entry, node.stage, node.ingredients, {}):
            if prompts := _prompts(node, plan, rows):
                asked = {p.id: p.messages for p in prompts}
                there = lender.inputs("prompts", "prompts", Prompt)
                same = sum(p.messages == asked.get(p.id) for p in there)
                if not same:
                    continue
                what = "rows of" if lender.finished else "what is there of"
                yield i, f"takes {what} {same} of {len(prompts)} prompts from {lender.key[:8]}"
            else:
                yield i, f"takes rows of unchanged prompts from {lender.key[:8]}"
            break


def _prompts(node: Node, plan: Plan, rows: Rows) -> list[Prompt] | None:
    """All of a stage's prompts, or None where only a part of them is known."""
    found: list[Prompt] = []
    for i in node.inputs.get("prompts", ()):
        seen = rows.of(plan.nodes[i])
        if seen is None or not seen.whole:
            return None
        found += seen.rows
    return found

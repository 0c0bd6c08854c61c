"""The stages of a plan as a Mermaid flowchart: what feeds what, and which model acts where."""

from __future__ import annotations

from typing import Any

from itercli import registry
from itercli.recipe.plan import Node, Plan
from itercli.recipe.schema import SCOPES

TITLES = {"before": "once, before the loop", "loop": "every iteration", "after": "once, after the loop"}


def data_of(node: Node, data: dict[str, Any]) -> dict[str, str]:
    """Option -> key of `data:` that a stage's option was filled from."""
    raw = {"prompts": node.raw["source"]} if node.stage.NAME == "prompts" else node.raw
    known = {k: v for k, v in data.items() if isinstance(v, dict | list)}
    return {o: k for o, v in raw.items() for k, d in known.items() if v == d}


def flowchart(plan: Plan) -> str:
    """A plan of two iterations, drawn as one.

    Data flows along solid arrows, models along dotted ones. What only the next iteration takes
    is labelled so.
    """
    edges: dict[tuple[str, str, str], bool] = {}  # (from, to, role) -> inside an iteration
    data, roles = {}, {}
    for node in plan.nodes.values():
        end = _top(node.id)
        for slot in dict.fromkeys(link.slot for link in node.stage.links(node.name)):
            for i in node.inputs.get(slot, []):
                _add(edges, plan, i, node, "")
        for slot, use in node.models.items():
            if slot in ("start", "reference"):  # what is trained starts somewhere: no news
                continue
            if use.node:
                _add(edges, plan, use.node, node, use.role)
            else:
                roles[use.role] = f"m_{use.role}"
                edges[roles[use.role], end, ""] = True
        for option, key in data_of(node, plan.recipe.raw.get("data", {})).items():
            if option not in registry.GROUPS:
                data[key] = f"d_{key}"
                edges[data[key], end, ""] = True
    lines = ["flowchart TD"]
    lines += [f'    {i}[("data.{key}")]' for key, i in sorted(data.items())]
    lines += [f'    {i}(["{role}: start model"])' for role, i in sorted(roles.items())]
    for scope in SCOPES:
        names = [n for n in plan.recipe.stages[scope] if "." not in n]
        if names:
            lines += [f'    subgraph {scope} ["{TITLES[scope]}"]']
            lines += [f"        {scope}_{n}[{n}]" for n in names] + ["    end"]
    for (start, end, role), inside in edges.items():
        label = ", ".join(x for x in (role, "" if inside else "next iteration") if x)
        arrow = (f'-. "{label}" .->' if label else "-.->") if role or start.startswith("m_") else "-->"
        lines.append(f"    {start} {arrow}{f'|{label}|' if label and not role else ''} {end}")
    return "\n".join(lines)


def _add(edges: dict[tuple[str, str, str], bool], plan: Plan, start: str, node: Node, role: str) -> None:
    a, b = _top(start), _top(node.id)
    if a != b:
        later = plan.nodes[start].scope == node.scope and plan.nodes[start].iteration < node.iteration
        edges[a, b, role] = edges.get((a, b, role), False) or not later


def _top(node_id: str) -> str:
    """Id in the chart: children are drawn as their parent, iterations as one."""
    scope, _, name = node_id.partition("/")
    return f"{'loop' if scope.startswith('iteration') else scope}_{name.split('.')[0]}"

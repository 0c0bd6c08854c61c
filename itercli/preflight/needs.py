"""Whether rows have what the parts of a stage need of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from itercli.preflight.rows import Seen
from itercli.recipe.errors import Problem, nearest
from itercli.recipe.plan import Node, Plan
from itercli.records import Prompt
from itercli.registry import Component
from itercli.stages.evaluate import Evaluate
from itercli.stages.measure import Measure
from itercli.stages.sample import Sample
from itercli.stages.summary import SummaryStage, pass_k
from itercli.verifiers.base import Scorer

SHOWN = 8


def problems(node: Node, plan: Plan, seen: Sequence[Seen]) -> Iterator[Problem]:
    """What is lacking.

    Args:
        seen: What was seen of the stage's prompts.
    """
    rows = [row for one in seen for row in one.rows]
    key = f"{node.scope}.{node.name.split('.')[0]}"
    for option, part in [("", node.stage), *_parts(node.stage)]:
        at = f"{key}.{option}" if option else key
        name = f"{part.GROUP} {part.NAME}" if option else f"stage {node.stage.NAME}"
        try:
            lacking = [*_fields(at, name, part, rows), *_scores(at, name, part.needs(), node, plan)]
            yield from lacking
            if not lacking and (what := next(filter(None, map(part.objection, rows)), "")):
                yield Problem(at, what)
        except Exception as error:  # a plug-in may raise anything
            yield Problem(at, f"{name} can't say what it needs of the rows: {type(error).__name__}: {error}")
    if isinstance(node.stage, SummaryStage):
        yield from _metrics(key, node, plan, rows, all(one.whole for one in seen))


def _parts(component: Component) -> Iterator[tuple[str, Component]]:
    for option, part in component.parts():
        yield option, part
        yield from ((f"{option}.{inner}", deep) for inner, deep in _parts(part))


def _fields(at: str, name: str, part: Component, rows: Sequence[Prompt]) -> Iterator[Problem]:
    for need in part.needs():
        record, _, field = need.partition(".")
        if record != "Prompt" or not rows:
            continue
        lacking = [row for row in rows if _value(row, field) is None]
        if not lacking or (not part.NEEDS_EVERY and len(lacking) < len(rows)):
            continue
        known = _known(lacking[0])
        yield Problem(
            at,
            f"{name} needs {field} of the prompts, and {len(lacking)} of {len(rows)} have none, for example "
            f"{lacking[0].id!r}",
            f"fields: {', '.join(known)}",
            f"prompts with {field}, or another {part.GROUP or 'stage'}",
            nearest(field, known),
        )


def _scores(at: str, name: str, needs: Sequence[str], node: Node, plan: Plan) -> Iterator[Problem]:
    for need in needs:
        if need.startswith("Score.") and (scorer := _leaves_open(need, node, plan)):
            yield Problem(
                at,
                f"{name} needs {need.partition('.')[2]!r} of the scores, which scorer {scorer} leaves open",
                "",
                "a scorer that tells right from wrong, or other options",
            )


def _metrics(key: str, node: Node, plan: Plan, rows: Sequence[Prompt], whole: bool) -> Iterator[Problem]:
    stage = node.stage
    assert isinstance(stage, SummaryStage)
    if isinstance(stage, Evaluate | Measure):
        for metric in stage.metrics:
            k = pass_k(metric)
            if k is None:
                continue
            yield from _scores(f"{key}.metrics", metric, ("Score.passed",), node, plan)
            drawn = [n.stage.n for n in _behind(node, plan) if isinstance(n.stage, Sample)]
            if drawn and isinstance(stage, Measure) and k > min(drawn):
                what = f"{metric} needs at least {k} completions per prompt, there are {min(drawn)}"
                yield Problem(f"{key}.metrics", what, "", f"n >= {k}")
    asked = stage.by if "by" in stage.model_fields_set else None
    if asked and rows and whole and all(asked not in row.meta for row in rows):
        known = sorted({field for row in rows for field in row.meta})
        yield Problem(
            f"{key}.by",
            f"no prompt has the field {asked!r} to break metrics down by",
            asked,
            ", ".join(known[:SHOWN]) or "none: the prompts have no meta fields",
            nearest(asked, known),
        )


def _behind(node: Node, plan: Plan) -> Iterator[Node]:
    """The stages that a stage's rows go back to, through scores."""
    for slot, ids in node.inputs.items():
        for i in ids if slot != "prompts" else ():
            before = plan.nodes[i]
            yield before
            if before.kind == "scores":
                yield from _behind(before, plan)


def _leaves_open(field: str, node: Node, plan: Plan) -> str:
    """The scorer behind a stage that never fills a field, or an empty string."""
    for before in _behind(node, plan):
        scorer: Any = getattr(before.stage, "scorer", None)
        if isinstance(scorer, Scorer) and field in scorer.leaves_open():
            return scorer.NAME
    return ""


def _value(row: Prompt, field: str) -> Any:
    head, _, rest = field.partition(".")
    value: Any = getattr(row, head, None)
    for part in rest.split(".") if rest else ():
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _known(row: Prompt) -> list[str]:
    return [
        "messages",
        *(["reference"] if row.reference is not None else []),
        *(f"meta.{k}" for k in row.meta),
    ]

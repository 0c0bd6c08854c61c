"""The sample browser's data: a few rows of every stage with rows, chosen to be representative."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itercli.engine.runs import Run
from itercli.report.samples import KINDS, choose, joined
from itercli.report.stages import StageView
from itercli.web.survey import UNITS, Survey, survey
from itercli.web.texts import Texts
from itercli.web.views import view

Row = dict[str, Any]
Surveys = dict[tuple[str, str, int], Survey]  # key, identity and wanted samples of a finished stage
PER_STAGE = 20
TOGETHER = 800  # samples of a page, unless a number was asked for
FEWEST = 3


def per_stage(stages: int) -> int:
    """How many rows of each stage a page shows if nobody says."""
    return max(FEWEST, min(PER_STAGE, TOGETHER // max(stages, 1)))


def shown_stages(views: list[StageView]) -> list[StageView]:
    """Stages whose rows are worth showing, each artifact once.

    Completions that a later stage scores are shown there, with their verdicts, and prompts
    that were only read stand above what was made from them.
    """
    found: dict[str, StageView] = {}
    by_node = {v.node: v for v in views}
    scored = {
        i
        for v in views
        if v.place["kind"] == "scores" and v.rows
        for i in v.place["needs"]
        if i in by_node and by_node[i].rows == v.rows
    }
    for v in views:
        kind, uses = v.place["kind"], v.place["uses"]
        if kind not in KINDS or not v.rows or (kind == "prompts" and uses == "prompts"):
            continue
        if not (kind == "trajectories" and v.node in scored):
            found.setdefault(v.place["key"], v)
    return list(found.values())


def survey_stages(
    run: Run, views: list[StageView], count: int, known: Surveys | None = None
) -> dict[str, Survey]:
    """Read every stage with rows once; node -> what was found.

    Args:
        known: What was found in finished stages before; new ones are added.
    """
    shown = {v.node for v in shown_stages(views)}
    found: dict[str, Survey] = {}
    seen: set[str] = set()
    for v in views:
        key = v.place["key"]
        if (v.place["kind"] in UNITS or v.node in shown) and v.rows and key not in seen:
            seen.add(key)
            wanted = count if v.node in shown else 0
            slot = (key, v.entry.identity, wanted)
            before = known.get(slot) if known else None
            found[v.node] = before or survey(run, v.node, wanted)
            if known is not None and v.state == "done" and not found[v.node].problem:
                known[slot] = found[v.node]
    return found


def samples(
    run: Run, number: int, views: list[StageView], surveys: Mapping[str, Survey], texts: Texts
) -> tuple[list[Row], list[Row]]:
    """The chosen rows of a run.

    Args:
        number: The run's number on the page.

    Returns:
        Stages, ``[{run, node, stage, iteration, kind, rows, shown, finished, first, outcomes,
        problem}]``, where ``first`` marks the one that a reader sees first,
        and samples, as `view` makes them, each with its stage's number in ``stage``.
    """
    stages: list[Row] = []
    rows: list[Row] = []
    try:
        first = choose(run, stage=None, iteration=None)
    except LookupError:  # no rows yet
        first = ""
    shown = shown_stages(views)
    if first not in {v.node for v in shown}:
        first = next((v.node for v in shown[::-1] if v.state == "done"), "")
    for v in shown:
        found = surveys[v.node]
        finished = v.entry.manifest is not None
        for sample in joined(run, v.node, found.picked, finished=finished):
            rows.append({"stage": len(stages), **view(sample, texts)})
        stages.append(
            {
                "run": number,
                "node": v.node,
                "stage": v.node.partition("/")[2],
                "iteration": v.place["iteration"],
                "kind": v.place["kind"],
                "rows": found.rows,
                "shown": len(found.picked),
                "finished": finished,
                "first": v.node == first,
                "outcomes": dict(found.outcomes.most_common()),
                "problem": found.problem,
            }
        )
    return stages, rows

"""All rows of a stage, some at a time: a page of `iter ui` in the form of the sample browser."""

from __future__ import annotations

from itercli.engine.runs import Run
from itercli.report.samples import KINDS, Query, page
from itercli.web.page import document, embed
from itercli.web.texts import Texts, tidy
from itercli.web.views import view

SIZE = 20  # rows of a page, as many as `samples.js` shows at once


def rows_page(run: Run, *, node: str, start: int = 0, outcome: str = "", prompt: str = "") -> str:
    """A page of rows with their prompts and verdicts.

    Args:
        node: Stage of an iteration, ``iteration-02/score``.
        start: How many of the rows that fit come before the page.
        outcome: Only rows of this outcome class; empty: all.
        prompt: Only rows of prompts with this in their name, or of this pattern; empty: all.

    Raises:
        LookupError: No such stage, or its rows can't be read.
    """
    place = run.info["nodes"].get(node)
    if place is None or place["kind"] not in KINDS:
        raise LookupError(f"{run.name} has no stage {node!r} with rows")
    found = page(run, node, Query(outcome=outcome or None, prompt=prompt or None, limit=SIZE, offset=start))
    texts = Texts()
    rows = [{"stage": 0, **view(sample, texts)} for sample in found.samples]
    stage = {
        "run": 0,
        "node": node,
        "stage": node.partition("/")[2],
        "iteration": place["iteration"],
        "rows": found.rows,
        "shown": len(rows),
        "finished": found.finished,
        "first": False,
        "outcomes": found.outcomes,
    }
    shown = {**tidy({"stages": [stage], "rows": rows}), "texts": texts.table()}
    return document(
        "rows.html",
        scripts=("samples.js",),
        served=True,
        title=f"{node} of {run.name}",
        run=run.name,
        asked={"node": node, "outcome": outcome, "prompt": prompt},
        stage=shown["stages"][0],
        matched=found.matched,
        start=start,
        size=SIZE,
        samples_shown=len(rows),
        samples=embed(shown),
    )

"""Page data: all that a page shows of runs, as JSON can hold it.

It knows no HTML. Every text in it is cleaned of control characters, escapes and reordering
marks (`itercli.report.text.clean`), but it is text: a page has to escape it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import yaml

from itercli import __version__
from itercli.engine.runs import Run
from itercli.report.compare_config import differences
from itercli.report.compare_cost import cost
from itercli.report.details import config_of, details
from itercli.report.runs import state_of
from itercli.report.stages import StageView, stage_views
from itercli.web.browser import Surveys, per_stage, samples, shown_stages, survey_stages
from itercli.web.compared import labels, paired_rows
from itercli.web.environment import environment
from itercli.web.flow import costs, distributions, yields
from itercli.web.survey import Survey
from itercli.web.texts import Texts, tidy
from itercli.web.training import training_curves

SCHEMA = "itercli.page/1"
Row = dict[str, Any]


def page_data(runs: Sequence[Run], count: int | None = None, known: Surveys | None = None) -> Row:
    """Everything that a page shows.

    Args:
        count: Samples of each stage; None leaves it to the number of stages.
        known: What `survey_stages` found before, for a page that is made again and again.

    Returns:
        ``schema``, ``made`` (time), ``itercli`` (version); ``runs``: `run_data` of each;
        ``config``: options in which they differ; ``paired``: see `paired_rows`; ``samples``:
        ``per_stage``, ``stages``, ``rows`` and ``texts``, see `itercli.web.browser.samples` and
        `Texts.table`.
    """
    views = [stage_views(run, alive=state_of(run, run.info) == "running") for run in runs]
    if count is None:
        count = per_stage(sum(len(shown_stages(v)) for v in views))
    texts = Texts()
    stages: list[Row] = []
    rows: list[Row] = []
    content = []
    for number, (run, own) in enumerate(zip(runs, views, strict=True)):
        surveys = survey_stages(run, own, count, known)
        content.append(run_data(run, own, surveys))
        found = samples(run, number, own, surveys, texts)
        rows += [{**row, "stage": row["stage"] + len(stages)} for row in found[1]]
        stages += found[0]
    configs = {run.name: config_of(run) for run in runs}
    config = differences(configs) if len(configs) > 1 else []
    for one, label in zip(content, labels([run.name for run in runs], config), strict=True):
        one["label"] = label
    return {
        **tidy(
            {
                "schema": SCHEMA,
                "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "itercli": __version__,
                "runs": content,
                "config": config,
                "paired": paired_rows(runs) if len(configs) > 1 else [],
            }
        ),
        "samples": {
            **tidy({"per_stage": count, "stages": stages, "rows": rows}),
            "texts": texts.table(),
        },
    }


def run_data(run: Run, views: list[StageView], surveys: dict[str, Survey]) -> Row:
    """One run: all of `itercli.show/1`, and what follows from its rows.

    Args:
        views: Its stages.
        surveys: What was found in their rows, by node.
    """
    return {
        **details(run),
        "yields": yields(views, surveys),
        "distributions": distributions(views, surveys),
        "training": training_curves(views),
        "costs": costs(views),
        "cost": cost(views),
        "environment": environment(run, views),
        "config": yaml.safe_dump(config_of(run), sort_keys=False, allow_unicode=True),
    }

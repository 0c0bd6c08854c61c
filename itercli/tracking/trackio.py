"""trackio: Hugging Face's local-first tracker; a SQLite file here, or a Space where one is named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from itercli.registry import register
from itercli.tracking.base import About, Point, SampleTable, Sink, Tracker, as_code


@register("tracker", "trackio")
class Trackio(Tracker):
    """Options of trackio."""

    PACKAGE = EXTRA = "trackio"

    project: str = "itercli"
    group: str | None = Field(None, description="Name for runs that belong together; none: the sweep's.")
    space: str | None = Field(None, description="Space of the hub to send to; none: this machine only.")
    samples: int = Field(0, ge=0, description="Rows of a sample table for each iteration.")

    def open(self, about: About) -> Sink:
        return TrackioSink(self, about)


class TrackioSink(Sink):
    """One attempt's trackio run, found again by its name.

    trackio has one axis: `step` is the iteration of metrics, and the global step of training.
    """

    def __init__(self, spec: Trackio, about: About) -> None:
        if spec.space is None:
            os.environ.setdefault("HF_HUB_OFFLINE", "1")  # it would ask the hub who the user is
        import trackio

        self._trackio = trackio
        about.memory.setdefault("name", f"{about.name}-{about.identity[:6]}")
        self._run = trackio.init(
            project=spec.project,
            name=about.memory["name"],
            group=spec.group or about.group,
            space_id=spec.space,
            config={"tags": about.tags, **about.config},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, points: Iterable[Point]) -> None:
        for point in points:
            self._run.log({point.axis: point.at, **point.values}, step=point.at)

    def table(self, table: SampleTable) -> None:
        import pandas

        rows = [[as_code(c) if isinstance(c, str) else c for c in row] for row in table.rows]
        content = self._trackio.Table(dataframe=pandas.DataFrame(rows, columns=table.columns))
        self._run.log({f"samples/{table.stage}": content}, step=table.iteration)

    def close(self, state: str, summary: dict[str, Any]) -> None:
        self._run.finish()

"""TensorBoard: event files below ``runs/NAME/tracking/tensorboard``, for `tensorboard --logdir runs`.

They are written with TensorBoard's own writer: those of torch and tensorboardX would load torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from itercli.registry import register
from itercli.tracking.base import About, Point, SampleTable, Sink, Tracker, as_code


@register("tracker", "tensorboard")
class TensorBoard(Tracker):
    """Options of TensorBoard."""

    PACKAGE = EXTRA = "tensorboard"

    dir: str | None = Field(None, description="Folder of event files; none: the run's own.")
    samples: int = Field(0, ge=0, description="Samples of each iteration, as text.")

    def open(self, about: About) -> Sink:
        folder = Path(self.dir).expanduser() / about.name if self.dir else about.folder / "tensorboard"
        return TensorBoardSink(folder, about)


class TensorBoardSink(Sink):
    """One event file; further attempts add theirs, and TensorBoard shows them as one run."""

    def __init__(self, folder: Path, about: About) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
        from tensorboard.plugins.text import metadata
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._tensor = lambda text: tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[text.encode()]
        )
        self._text_metadata = metadata.create_summary_metadata("", "")
        self._writer = EventFileWriter(str(folder))
        if not about.memory.get("begun"):
            self._text("recipe", yaml.safe_dump(about.config, sort_keys=False, allow_unicode=True), 0)
            about.memory["begun"] = True

    def log(self, points: Iterable[Point]) -> None:
        for point in points:
            values = [self._summary.Value(tag=n, simple_value=v) for n, v in point.values.items()]
            self._add(self._summary(value=values), point.at)

    def table(self, table: SampleTable) -> None:
        for n, row in enumerate(table.rows, 1):
            lines = [f"{name}: {cell}" for name, cell in zip(table.columns, row, strict=True)]
            self._text(f"samples/{table.stage}/{n}", "\n".join(lines), table.iteration)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, state: str, summary: dict[str, Any]) -> None:
        lines = [f"{name}: {value}" for name, value in {"state": state, **summary}.items()]
        self._text("state", "\n".join(lines), 0)
        self._writer.close()

    def _text(self, tag: str, text: str, step: int) -> None:
        tensor = self._tensor(as_code(text))
        value = self._summary.Value(tag=tag, metadata=self._text_metadata, tensor=tensor)
        self._add(self._summary(value=[value]), step)

    def _add(self, summary: Any, step: int) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))

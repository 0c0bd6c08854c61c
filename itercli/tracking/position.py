"""What was sent to a tracker, kept beside the run: ``runs/NAME/tracking/TRACKER.json``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from itercli.engine.checked import Damaged, read_document, read_document_or, write_document
from itercli.engine.runs import Run
from itercli.engine.shapes import Shape

FOLDER = "tracking"


class _Shape(Shape):
    sent: dict[str, Any] = Field(default_factory=dict)
    memory: dict[str, Any] = Field(default_factory=dict)
    error: str = ""
    note: str = ""


@dataclass
class Position:
    """One tracker's position in a run.

    Attributes:
        sent: `Batch.id` -> mark of what was handed to the tracker.
        memory: What the tracker's sink remembers, for example its run's id.
        error: Why it is behind; empty while it sends.
        note: What `iter sync` should say.
    """

    path: Path
    sent: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    note: str = ""

    @classmethod
    def load(cls, run: Run, tracker: str) -> Position:
        """The position as it was last saved; an empty one where there is none."""
        path = run.path / FOLDER / f"{tracker}.json"
        known = read_document_or(path, _Shape, "what the tracker has already is sent again")
        fields = {n: known[n] for n in ("sent", "memory", "error", "note") if n in known}
        return cls(path, **fields)

    def save(self) -> None:
        """Write it atomically, if anything has changed."""
        fields = {n: getattr(self, n) for n in ("sent", "memory", "error", "note")}
        content = {"format": 1, "tracker": self.path.stem, **fields}
        known: dict[str, Any] | None = None
        with suppress(Damaged):
            known = read_document(self.path)
        if known != content:
            write_document(self.path, content)

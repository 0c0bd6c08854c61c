"""Finished artifacts, written without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from itercli.engine.context import StoredArtifact
from itercli.engine.rows import write_rows
from itercli.engine.store import MANIFEST, ROWS, Entry
from itercli.records import Record


def sealed(folder: Path, record: type[Record], rows: Sequence[Record]) -> StoredArtifact:
    """An artifact of rows, named after its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    write_rows(folder / ROWS, record, rows)
    entry = Entry(folder, "x", folder.name)
    entry.finish(
        ingredients={},
        inputs={},
        models={},
        rows=len(rows),
        record=record.__name__,
        counts={},
        metrics={},
        seconds=0.0,
        work={},
    )
    return StoredArtifact(entry, folder.name)

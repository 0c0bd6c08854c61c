"""Stage `preferences`: labelled pairs from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from itercli.records import PreferencePair
from itercli.registry import register
from itercli.stages.base import Stage, StageContext


@register("stage", "preferences")
class Preferences(Stage):
    """Reads labelled pairs, as reward models and estimators learn from; see `itercli.data.preferences`."""

    OUTPUT = "pairs"

    uses: Literal["preferences"] = "preferences"
    path: Path = Field(description="A JSON Lines or Parquet file.", json_schema_extra={"how": True})
    limit: int | None = Field(None, ge=1, description="Rows to read, none for all.")

    def fingerprint(self) -> dict[str, Any]:
        from itercli.data.base import hash_files

        return hash_files([self.path.expanduser()])

    def run(self, ctx: StageContext) -> None:
        from itertools import islice

        from itercli.data.preferences import read_preferences

        rows = islice(read_preferences(self.path.expanduser()), self.limit)
        ctx.finish_rows(PreferencePair, rows)

"""A budget of rows that may fail, so that one bad row is recorded and not the end of a stage."""

from __future__ import annotations

from itercli.engine.store import FAILED
from itercli.stages.base import StageContext, StageError
from itercli.verifiers.contract import Unscored

SHOWN = 5


class Failures:
    """The rows that failed so far, against a budget.

    Args:
        max_failed: Share of all rows that may fail; one may unless it is 0.
    """

    def __init__(self, ctx: StageContext, max_failed: float) -> None:
        self.ctx, self.max_failed = ctx, max_failed
        self.rows: list[Unscored] = []

    def add(self, failure: Unscored, total: int | None) -> None:
        """Record a failure.

        Args:
            total: Rows in all, or None while that isn't known.

        Raises:
            StageError: More have failed than may.
        """
        self.rows.append(failure)
        self.ctx.event("row_failed", **failure.to_json())
        if total is not None:
            self.check(total)

    def check(self, total: int) -> None:
        """Compare with the budget, see `add`."""
        allowed = max(1, int(self.max_failed * total)) if self.max_failed else 0
        if self.rows and (len(self.rows) > allowed or len(self.rows) == total):
            raise StageError(
                f"{self.ctx.name}: {self._some(total)}\nCorrect the scorer; "
                f"`max_failed: {self.max_failed:g}` lets {allowed} of {total} fail"
            )

    def finish(self) -> dict[str, int]:
        """Keep the failures in the artifact and say that there are some; returns the count to store."""
        if not self.rows:
            return {}
        self.rows.sort(key=lambda row: (row.prompt_id, row.index))
        self.ctx.finish_file(FAILED, [row.to_json() for row in self.rows])
        self.ctx.event("note", text=self._some(None))
        return {"not scored": len(self.rows)}

    def _some(self, total: int | None) -> str:
        of = f" of {total}" if total is not None else ""
        more = [f"and {len(self.rows) - SHOWN} more"] if len(self.rows) > SHOWN else []
        listed = "\n  ".join([*map(str, self.rows[:SHOWN]), *more])
        return f"{len(self.rows)}{of} rows could not be scored:\n  {listed}"

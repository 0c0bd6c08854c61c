"""The scorer contract, held in one place for built-in scorers and plug-ins.

A row that breaks it is a recorded failure, not the end of the stage: `Unscored` names scorer,
prompt, sample and value. What says that no row can be scored (an `IterError`, a full disk, no
memory) is raised as it is.
"""

from __future__ import annotations

import errno
import math
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from itercli.engine.encode import RowError, encode
from itercli.errors import IterError
from itercli.records import Prompt, Score, Trajectory
from itercli.verifiers.base import Judge

RESOURCES = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True, slots=True)
class Unscored:
    """A completion without a score, and why."""

    prompt_id: str
    index: int
    scorer: str
    reason: str

    def __str__(self) -> str:
        return f"scorer {self.scorer}, prompt {self.prompt_id!r}, sample {self.index}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """The failure as a flat mapping."""
        return asdict(self)


class CheckedJudge:
    """A judge whose rows are checked; thread-safe if it is.

    Args:
        name: The scorer's name in recipes.
    """

    def __init__(self, name: str, judge: Judge) -> None:
        self.name = name
        self._judge = judge

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score | Unscored:
        """The judge's row, or why it is none.

        A measure in `meta` that isn't finite is a missing one (None).

        Raises:
            IterError: The scorer itself says that it can't go on.
            OSError, MemoryError: Disk, memory or file handles are used up.
        """
        try:
            row: Any = self._judge.score(prompt, trajectory)
        except (IterError, MemoryError):
            raise
        except Exception as error:  # a plug-in may raise anything
            if isinstance(error, OSError) and error.errno in RESOURCES:
                raise
            traceback.print_exc(file=sys.stderr)  # the worker's log
            return self._unscored(trajectory, _said(error))
        if not isinstance(row, Score):
            return self._unscored(trajectory, f"gave a {type(row).__name__}, not a Score")
        if row.key != trajectory.key:
            return self._unscored(trajectory, f"gave a Score of prompt {row.prompt_id!r}, sample {row.index}")
        try:
            row = row.model_copy(update={"meta": _known(row.meta)})
            return Score.model_validate_json(encode(row))
        except RowError as error:
            return self._unscored(trajectory, str(error).partition(": ")[2])
        except ValidationError as error:
            return self._unscored(trajectory, _said(error))

    def close(self) -> None:
        """Close the judge."""
        self._judge.close()

    def _unscored(self, trajectory: Trajectory, reason: str) -> Unscored:
        return Unscored(trajectory.prompt_id, trajectory.index, self.name, reason)


def _known(meta: dict[str, Any]) -> dict[str, Any]:
    lost = {k: None for k, v in meta.items() if isinstance(v, float) and not math.isfinite(v)}
    return meta | lost if lost else meta


def _said(error: Exception) -> str:
    """An exception in a line: type, message, and where it was raised."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{error.title}.{place}: {first['msg']}, found {first['input']!r}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


__all__ = ["CheckedJudge", "Unscored"]

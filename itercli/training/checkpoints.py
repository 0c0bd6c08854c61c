"""Checkpoints that count only when whole.

transformers resumes from the highest-numbered folder, saved without atomicity, and goes on
silently without optimizer or RNG state. So each checkpoint here is written under a temporary
name, synced, renamed, and then marked by `complete.json`, which lists every file with size
and sha256. Without a marker, with a file missing or changed, or from another job, it does
not count.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from itercli.engine.checked import Damaged, read_document, write_document
from itercli.engine.files import make_folder, sha256, sync, sync_tree
from itercli.engine.shapes import File, Shape
from itercli.recipe.seeds import digest
from itercli.records import Record
from itercli.training.base import TrainJob
from itercli.training.step_log import STEPS

log = logging.getLogger(__name__)

MARKER = "complete.json"
WEIGHTS = "weights.safetensors"
REQUIRED = frozenset({WEIGHTS, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"})


class _Marker(Shape):
    job: str
    files: dict[str, File]


class Checkpoints:
    """The checkpoints of one training job, `folder/step-N`.

    Args:
        folder: Where they live; made on the first save.
        job: Identity of the job (examples, options, start model); others' are ignored.
        keep: How many of the newest to keep.
    """

    def __init__(self, folder: Path, job: str, keep: int = 2) -> None:
        self.folder, self.job, self.keep = folder, job, keep

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Make `step-N` from what `write` puts into a folder, then prune older ones.

        Raises:
            RuntimeError: `write` left out a file that resuming needs.
        """
        make_folder(self.folder)
        temporary, final = self.folder / f".tmp-step-{step}", self.folder / f"step-{step}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        sync_tree(temporary)
        files = {}
        for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
            name = path.relative_to(temporary).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": sha256(path)}
        if missing := REQUIRED - files.keys():
            raise RuntimeError(f"checkpoint of step {step} lacks {', '.join(sorted(missing))}")
        # Only a folder that does not count can be in the way: a valid one would have been resumed from.
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync(self.folder)
        if (steps := self.folder.parent / STEPS).exists():
            sync(steps)  # steps before a checkpoint are not done, and not logged, again
        write_document(final / MARKER, {"job": self.job, "step": step, "files": files})
        self._prune()
        return final

    def newest(self) -> Path | None:
        """The newest checkpoint that counts; why others don't is logged."""
        for path in self._all():
            if (reason := self.problem(path)) is None:
                return path
            log.warning("ignoring checkpoint %s: %s", path, reason)
        return None

    def problem(self, path: Path) -> str | None:
        """Why a checkpoint does not count, or None if it does."""
        try:
            marker = read_document(path / MARKER, _Marker)
        except Damaged as error:
            return f"its marker can't be read ({error.what})"
        if marker is None:
            return "it was not finished (no marker)"
        files, job = marker["files"], marker["job"]
        if job != self.job:
            return "it belongs to a job with other examples, options or start model"
        if missing := REQUIRED - files.keys():
            return f"it lacks {', '.join(sorted(missing))}"
        for name, entry in files.items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != entry["size"] or sha256(file) != entry["sha256"]:
                return f"{name} has changed since it was saved"
        return None

    def _all(self) -> list[Path]:
        """All step folders, newest first."""
        found = [
            (int(p.name[5:]), p) for p in self.folder.glob("step-*") if p.is_dir() and p.name[5:].isdecimal()
        ]
        return [p for _, p in sorted(found, reverse=True)]

    def _prune(self) -> None:
        """Keep the newest few of this job; broken and foreign ones go first."""
        kept = 0
        for path in self._all():
            if kept < self.keep and self._ours(path):
                kept += 1
            else:
                shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".tmp-step-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _ours(self, path: Path) -> bool:
        with suppress(Damaged):
            marker = read_document(path / MARKER, _Marker)
            return marker is not None and marker["job"] == self.job
        return False


def job_identity(job: TrainJob, options: dict[str, Any]) -> str:
    """What a checkpoint of a job belongs to."""
    return digest(
        {
            "format": 1,
            "method": options,
            "training": job.training.key_params(),
            "start": job.start.digest,
            "reference": job.reference.digest if job.reference else None,
            "seed": job.seed,
            "examples": _examples_digest(job.examples),
        }
    )


def _examples_digest(examples: Iterable[Record]) -> str:
    state = hashlib.sha256()
    for example in examples:
        state.update(example.model_dump_json().encode() + b"\n")
    return state.hexdigest()

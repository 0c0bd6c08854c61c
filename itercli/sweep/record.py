"""What a sweep was: its command line and its points.

::

    runs/.sweeps/NAME/sweep.json    the record
    runs/.sweeps/NAME/RUN.yaml      the resolved recipe of a point; its process reads it
    runs/.sweeps/NAME/attempt-NN/   what launching left: output of the points, their exit codes

How a point fares is not in the record but in its run, which `iter run` and `iter resume` of that
run alone change, too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from os import getpid
from pathlib import Path

from itercli.engine.checked import read_document_or, write_document
from itercli.engine.files import lock
from itercli.engine.runs import Run
from itercli.engine.shapes import Shape
from itercli.recipe.errors import nearest
from itercli.recipe.seeds import digest

FOLDER = ".sweeps"
FILE = "sweep.json"


class _Point(Shape):
    run: str
    changed: dict[str, str]
    overrides: list[str]


class _Shape(Shape):
    recipe: str
    overrides: list[str]
    points: list[_Point]
    line: str
    folder: str
    created: str
    updated: str


@dataclass(frozen=True)
class SweepPoint:
    """One run of a sweep.

    Attributes:
        run: Name of the run.
        changed: Key -> value, as given, of the overrides that the sweep varies.
        overrides: All of the point's overrides; `iter run` with them makes the same run.
    """

    run: str
    changed: dict[str, str]
    overrides: list[str]

    @property
    def label(self) -> str:
        """The changed values in words."""
        return " ".join(f"{key}={value}" for key, value in self.changed.items()) or "the only point"


@dataclass(frozen=True)
class Sweep:
    """A sweep's record.

    Attributes:
        path: `runs/.sweeps/NAME`.
        recipe: The recipe's name, or several, joined with `+`.
        overrides: The command line's overrides, those of Hydra's launcher included.
        line: The whole command; typed again, it goes on.
        points: In the order of the command line; no two are the same run.
        folder: Where the command was given; relative paths in recipes start there.
        created, updated: When it was first and last given, UTC.
    """

    path: Path
    recipe: str
    overrides: list[str]
    points: list[SweepPoint]
    line: str = ""
    folder: str = ""
    created: str = ""
    updated: str = ""

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return self.path.name

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return self.path.parent.parent

    def run(self, point: SweepPoint) -> Run:
        """A point's run; its folder isn't there before the point has begun."""
        return Run(self.root / point.run)

    def recipe_file(self, point: SweepPoint) -> Path:
        """Where a point's resolved recipe is."""
        return self.path / f"{point.run}.yaml"

    def save(self) -> None:
        """Write the record."""
        content = {k: v for k, v in asdict(self).items() if k != "path"}
        write_document(self.path / FILE, {"format": 1, "name": self.name, **content})

    def lock(self) -> AbstractContextManager[None]:
        """Hold the sweep; raises `Locked` if another process runs it."""
        return lock(self.path / ".lock", f"process {getpid()}")


def sweep_name(recipe: str, runs: list[str]) -> str:
    """Name of the sweep of these runs: what it varies, not how it was written down."""
    return f"{recipe}-sweep-{digest(sorted(runs), 8)}"


def all_sweeps(root: Path) -> list[Sweep]:
    """Sweeps of a folder of runs, newest first."""
    found = [_load(path.parent) for path in (root / FOLDER).glob(f"*/{FILE}")]
    return sorted((s for s in found if s), key=lambda s: s.updated, reverse=True)


def find_sweep(root: Path, name: str | None) -> Sweep:
    """A sweep by name or unique beginning; the newest if no name is given.

    Raises:
        LookupError: None, or several; the message lists what there is.
    """
    sweeps = all_sweeps(root)
    if name is None:
        if not sweeps:
            raise LookupError(f"there are no sweeps in {root}; start one with `iter run -m recipe=NAME ...`")
        return sweeps[0]
    hits = [s for s in sweeps if s.name == name] or [s for s in sweeps if s.name.startswith(name)]
    if len(hits) == 1:
        return hits[0]
    known = ", ".join(s.name for s in (hits or sweeps)[:8]) or "none"
    what = f"{len(hits)} sweeps begin with {name!r}" if hits else f"no sweep {name!r} in {root}"
    near = nearest(name, [s.name for s in sweeps]) if not hits else ""
    raise LookupError(f"{what}; there are: {known}" + (f". Did you mean {near}?" if near else ""))


def _load(path: Path) -> Sweep | None:
    content = read_document_or(path / FILE, _Shape, "give its `iter run -m` line again, which writes it anew")
    if not content:
        return None
    points = [SweepPoint(p["run"], p["changed"], p["overrides"]) for p in content["points"]]
    known = {k: content[k] for k in ("recipe", "overrides", "line", "folder", "created", "updated")}
    return Sweep(path, points=points, **known)

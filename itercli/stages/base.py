"""What a stage is: options, links to its inputs, and a `run` that a worker calls.

A stage class is light: the planner reads its links and keys without running it. `run`
executes in a worker, imports what it needs there, and talks to the engine only through
its `StageContext`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from itercli.errors import IterError
from itercli.records import ModelRef, Record
from itercli.registry import Component, how

if TYPE_CHECKING:
    from itercli.engine.journal import Keys

ArtifactKind = Literal[
    "prompts",
    "trajectories",
    "episodes",
    "trees",
    "scores",
    "examples",
    "pairs",
    "dialogues",
    "model",
    "metrics",
]
Which = Literal["initial", "current"]
R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Link:
    """An input: which stage feeds which slot.

    Attributes:
        slot: Name under which `run` finds the artifact.
        ref: Stage name as the recipe gives it: ``NAME``, ``previous.NAME``, ``all.NAME`` or ``before.NAME``.
        kinds: Artifact kinds that fit.
        key: Field of the stage that holds the reference, for error messages.
        optional: An unresolvable reference is an empty input (first iteration).
    """

    slot: str
    ref: str
    kinds: tuple[ArtifactKind, ...]
    key: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelLink:
    """A model that a stage uses: which version of which role.

    Attributes:
        untrained: The role must be one that no stage of the recipe trains (a judge).
    """

    slot: str
    role: str
    which: Which
    key: str = "role"
    untrained: bool = False


class StageError(IterError):
    """A stage can't go on; the message names the place and the fix."""


class Artifact(Protocol):
    """A finished (or, for streams, growing) input of a stage."""

    @property
    def path(self) -> Path:
        """Folder in the store."""
        ...

    @property
    def label(self) -> str:
        """Where it comes from, for example ``iteration-02/sample``."""
        ...

    def rows(self, record: type[R]) -> Iterator[R]:
        """All rows, in stored order."""
        ...

    def follow(self, record: type[R]) -> Iterator[R | None]:
        """Rows as they appear while the producer runs; None where there is none just now."""
        ...

    def json(self, name: str) -> Any:
        """A JSON file of the artifact."""
        ...

    def count(self) -> int | None:
        """Rows in all if known: of the finished artifact, else what the producer announced."""
        ...


class Journal(Protocol):
    """Append-only rows of the stage under way; survives kills."""

    @property
    def done(self) -> Keys:
        """Keys of the rows that are there already."""
        ...

    def append(self, row: Record) -> None:
        """Add a finished row; it is on disk when this returns, synced within two seconds."""
        ...

    def rows(self) -> Iterator[Record]:
        """All rows so far."""
        ...

    def ordered(self, place: Callable[[Any], Any]) -> Iterator[Record]:
        """All rows sorted by what `place` gives, one at a time in memory."""
        ...


class Lender(Protocol):
    """An earlier artifact whose rows may be copied."""

    @property
    def key(self) -> str:
        """Its stage key."""
        ...

    def rows(self, record: type[R]) -> Iterator[R]:
        """Its rows."""
        ...

    def inputs(self, slot: str, kind: str, record: type[R]) -> Iterator[R]:
        """The rows of a slot that its rows were made from."""
        ...


class StageContext(Protocol):
    """What the engine gives to a running stage."""

    name: str
    iteration: int
    seed: int
    work: Path
    inputs: dict[str, list[Artifact]]
    models: dict[str, ModelRef]

    def stopping(self) -> bool:
        """True once the stage should finish the row or step in hand and raise `Interrupted`.

        Ask often: a stage that neither asks nor reports for `executor.hang_seconds` counts as hung.
        """
        ...

    def seconds(self) -> float:
        """Working time of this stage so far, over all its attempts."""
        ...

    def progress(self, done: int, total: int | None, unit: str, **metrics: float | str) -> None:
        """Report progress; throttled, so call it freely."""
        ...

    def journal(self, record: type[Record], total: int | None = None) -> Journal:
        """Open the stage's journal; `total` announces how many rows there will be."""
        ...

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """An object that outlives the stage in this worker, such as a sampler with its model."""
        ...

    def event(self, kind: str, **fields: Any) -> None:
        """Write something noteworthy to the run's events."""
        ...

    def lenders(self) -> Iterator[Lender]:
        """Earlier artifacts that differ in their prompts at most, see `Stage.ROWWISE`."""
        ...

    def borrowed(self, lender: Lender, rows: int = 1) -> None:
        """Count rows of which copies were appended to the journal."""
        ...

    def finish_rows(self, record: type[Record], rows: Iterator[Record], **counts: int) -> None:
        """Write the artifact's rows in this order, with counts for the manifest."""
        ...

    def finish_file(self, name: str, value: Any) -> None:
        """Write a JSON file into the artifact."""
        ...

    def finish_model(
        self, base: Path | str, *, adapter: Path | str | None = None, digest: str | None = None
    ) -> None:
        """Say how to load the new model; `digest` is given if it is an old one unchanged."""
        ...

    def finish_metrics(self, metrics: dict[str, Any]) -> None:
        """Metrics of the artifact; also added to the run's metrics.jsonl."""
        ...


class Stage(Component):
    """Base of all stages.

    Class attributes:
        OUTPUT: Kind of the artifact that it makes.
        WORKER: Which worker process runs it; stages of one kind share a process, and with
            it loaded models, over all iterations.
        STREAMS: Slots that may still be growing when the stage starts.
        SEEDED: Whether it draws random numbers from the run's seed.
        ROWWISE: Slots, with their kinds, whose rows its own rows depend on one by one, by prompt and
            index. With all else equal, rows of unchanged ones may come from an earlier artifact, see
            `StageContext.lenders`.
        NOT_IN_ROWS: Options that say which rows there are, not what is in them.
        WITH_PROMPTS: Give it a slot ``prompts`` with the prompts that its inputs go back to.
    """

    OUTPUT: ClassVar[ArtifactKind]
    WORKER: ClassVar[Literal["sample", "score", "train"]] = "score"
    STREAMS: ClassVar[frozenset[str]] = frozenset()
    SEEDED: ClassVar[bool] = False
    WITH_PROMPTS: ClassVar[bool] = False
    ROWWISE: ClassVar[Mapping[str, ArtifactKind]] = {}
    NOT_IN_ROWS: ClassVar[frozenset[str]] = frozenset()
    DEFAULTS: ClassVar[tuple[str, ...]] = ()

    once: bool = how(
        default=False,
        description="In the loop: run in the first iteration only; later ones use what it made.",
    )

    def links(self, name: str) -> list[Link]:
        """Inputs; `name` is the stage's own name (children are called ``name.child``)."""
        return []

    def model_links(self) -> list[ModelLink]:
        """Model versions that the stage uses."""
        return []

    def trains(self) -> str | None:
        """The role of which this stage makes a new version."""
        return None

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        """Stages that this one is made of, as recipe mappings; they run before it."""
        return {}

    def check(self) -> Sequence[tuple[str, ...]]:
        """Impossible combinations: (key, what is wrong, what is allowed[, name probably meant])."""
        return []

    def clusters(self) -> Sequence[str]:
        """Meta fields by which the prompts that it makes are alike; intervals resample such clusters."""
        return ()

    def settled(self, prompts: Sequence[Stage]) -> dict[str, Any]:
        """Options that the plan settles, once it is known which stages make the stage's prompts.

        Args:
            prompts: Those that it goes back to, the source first.
        """
        return {}

    def notes(self) -> Sequence[str]:
        """What a plan should say of the options, though they are allowed."""
        return ()

    def fingerprint(self) -> dict[str, Any]:
        """What determines the result beside options and inputs: file hashes, tool versions."""
        return {}

    def run(self, ctx: StageContext) -> None:
        """Do the work. Raises `Interrupted` when `ctx.stopping()`, `StageError` on failure."""
        raise NotImplementedError

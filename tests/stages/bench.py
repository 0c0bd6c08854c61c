"""A journal, a sampler and a context for stages of several calls, to be killed and gone on with."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from itercli.engine.context import Context
from itercli.engine.journal import RowJournal
from itercli.engine.rows import read_rows
from itercli.engine.store import JOURNAL, ROWS, Store
from itercli.records import Call, ModelRef, Record, Trajectory
from itercli.sampling.base import Request, Sampled, SamplerSpec
from itercli.stages.base import Stage
from itercli.stages.jobs import Job, JobStage, Outcome
from tests.stages.context import Rows

R = TypeVar("R", bound=Record)
SEED = 11
POLICY = ModelRef(base="w", version="policy@1", digest="sha:policy")


class Killed(Exception):
    """The process is gone in the middle of things."""


class Fake(SamplerSpec):
    """Never built: the context hands out the test's own sampler."""


@dataclass
class Slots:
    """A sampler that answers `width` requests at a time, in any order.

    Attributes:
        after: Called after each answer with the number of answers so far.
        answer: What is answered to a request; None: its prompt does not fit.
        end: Stop reading after this many answers.
    """

    width: int = 1
    order: random.Random = field(default_factory=random.Random)
    after: Callable[[int], None] = lambda answers: None
    end: int | None = None
    answer: Callable[[Request], str | None] = lambda request: str(request.seed % 1000)
    asked: list[Request] = field(default_factory=list)
    loaded: list[tuple[ModelRef, ...]] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)  # slots in use at each answer

    def load(self, *models: ModelRef) -> dict[str, Any]:
        self.loaded.append(models)
        return {}

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        source, busy, more, answers = iter(requests), list[Request](), True, 0
        while more or busy:
            if stopping() or answers == self.end:
                return
            while more and len(busy) < self.width:
                try:
                    request = next(source)
                except StopIteration:
                    more = False
                    break
                if request is None:
                    assert busy, "None means to wait for what is under way"
                    break
                busy.append(request)
                self.asked.append(request)
            if busy:
                self.busy.append(len(busy))
                request = busy.pop(self.order.randrange(len(busy)))
                answers += 1
                text = self.answer(request)
                # No text: the prompt did not fit.
                yield Sampled(request.key, text or "", "stop" if text is not None else "error", 2)
                self.after(answers)

    def close(self) -> None: ...


class Bench:
    """Runs jobs or whole stages on a real journal, attempt by attempt."""

    def __init__(self, path: Path, kind: str = "trajectories", shared: dict[str, Any] | None = None) -> None:
        self.shared = {} if shared is None else shared
        self.entry = Store(path).entry(kind, "k")
        self.entry.path.mkdir(parents=True)
        self.stop = threading.Event()
        self.messages: list[dict[str, Any]] = []

    def run(
        self,
        jobs: Mapping[str, Job[Trajectory]],
        sampler: Slots,
        models: Mapping[str, ModelRef] | None = None,
        **options: Any,
    ) -> Outcome[Trajectory]:
        """Run jobs that make texts."""
        with self._context(sampler, models or {"policy": POLICY}) as ctx:
            return JobStage(sampler=Fake(), **options).run_jobs(ctx, jobs, "texts")

    def stage(self, stage: Stage, sampler: Slots, record: type[R], **inputs: list[Any]) -> list[R]:
        """Run a stage on rows by slot; gives the rows that it made."""
        with self._context(sampler, {"policy": POLICY}) as ctx:  # looked up now: tests replace it
            ctx.inputs = {slot: [Rows(rows, f"before/{slot}")] for slot, rows in inputs.items()}
            stage.run(ctx)
            self.counts = ctx.counts
        return list(read_rows(self.entry.path / ROWS, record))

    @contextmanager
    def _context(self, sampler: Slots, models: Mapping[str, ModelRef]) -> Iterator[Context]:
        ctx = Context(
            name="iteration-01/extend", iteration=1, seed=SEED, entry=self.entry, inputs={},
            models=dict(models), shared=self.shared, stop=self.stop, send=self.messages.append,
        )  # fmt: skip
        make_shared = ctx.shared
        ctx.shared = lambda key, make: (  # type: ignore[assignment, method-assign]
            sampler if key.startswith("sampler:") else make_shared(key, make)
        )
        try:
            yield ctx
        finally:
            ctx.close()

    @property
    def journaled(self) -> list[Call]:
        """Finished calls in the order in which they came."""
        journal = RowJournal(self.entry.path / JOURNAL, Call)
        try:
            return list(journal.rows())
        finally:
            journal.close()


def die(at: int) -> Callable[[int], None]:
    """For `Slots.after`: the process is killed when this many answers are in."""

    def after(answers: int) -> None:
        if answers == at:
            raise Killed

    return after

"""Stages whose rows take several model calls: propose and ask back, draft and retry, extend.

A *job* makes one row. It is an ordinary generator function that yields an `Ask`, is sent
the finished `Call`, and returns its row (or `GaveUp`)::

    def job(reject):
        call = yield Ask("draft", messages, params)
        while not good(call.completion):
            reject("not good")
            call = yield Ask("draft", messages, params)
        return Trajectory(...)

Every finished call goes to the stage's journal before the job sees it. After a kill the
jobs run again from the start and are fed from the journal until it ends, so a job has no
state to save and a kill loses the calls in flight, nothing else. What this asks of a job:
the same answers must make it ask the same questions, so no clock, no order of other jobs, and
random numbers only from its own seed. Each call has a seed of its own, (stage, job, number
of the call): texts do not depend on order, batch or restarts.

A job that wants several answers at once yields a tuple of `Ask`s and is sent the list of their
calls. An `Ask` whose answer acts on something outside (an environment) says so with `then`: what
it returns is journaled with the call, so a restart does not act again.

The trade-off against one stage per step: jobs run ahead at their own pace, so a slow one
holds up none of the others and the batch stays full; but the rows exist only once all jobs
are done.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import Field

from itercli.recipe.seeds import seed_for
from itercli.records import Call, Message, ModelRef, Record
from itercli.sampling.base import Request, Sampled, SamplingParams
from itercli.stages.base import Journal, StageContext, StageError
from itercli.stages.drawing import DrawingStage, open_sampler
from itercli.training.base import Interrupted

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Ask:
    """A call that a job wants made.

    Attributes:
        step: What it is for; kept with the answer and counted.
        model: Slot of the model that answers, see `Stage.model_links`.
        continue_final: Go on in the last (assistant) message instead of opening a new turn.
        then: Called once with the answer, before it is journaled; the result is the call's `meta`.
    """

    step: str
    messages: tuple[Message, ...]
    params: SamplingParams
    model: str = "policy"
    continue_final: bool = False
    then: Callable[[Sampled], dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A job without a row, and why."""

    reason: str


Reject = Callable[[str], None]
# Sent back is a `Call` for an `Ask`, a list of them for a tuple.
Steps = Generator["Ask | tuple[Ask, ...]", Any, "R | GaveUp"]
Job = Callable[[Reject], "Steps[R]"]
Meter = Callable[[], tuple[int, int, dict[str, float]]]


@dataclass
class Outcome(Generic[R]):
    """What the jobs of a stage came to.

    Attributes:
        rows: Rows in the order of the jobs.
        gave_up: Reasons of jobs without a row.
        rejected: Answers that jobs turned down, by reason.
        calls: Calls by step.
        tokens: Generated tokens of all calls.
        differ: Calls whose text, encoded again, has other token ids than were sampled.
    """

    rows: dict[str, R] = field(default_factory=dict)
    gave_up: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    differ: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """For the artifact's manifest."""
        counts = {f"rejected: {reason}": n for reason, n in sorted(self.rejected.items())}
        counts |= {f"gave up: {reason}": n for reason, n in sorted(self.gave_up.items())}
        counts |= {f"calls: {step}": n for step, n in sorted(self.calls.items())}
        counts |= {"differ when re-encoded": self.differ} if self.differ else {}
        return {**counts, "tokens": self.tokens}


class JobStage(DrawingStage):
    """Base of stages made of jobs: bounded in rows and in time."""

    quota: float | None = Field(
        None,
        gt=0,
        description="Rows that are enough: a share of the jobs up to 1, else a number. Jobs start in "
        "order and only while rows are lacking, so the rows don't depend on speed.",
    )
    deadline_minutes: float | None = Field(
        None, gt=0, description="Working time after which open jobs are given up; what is done counts."
    )

    def run_jobs(
        self,
        ctx: StageContext,
        jobs: Mapping[str, Job[R]],
        unit: str,
        *,
        concurrent: int | None = None,
        meter: Meter | None = None,
    ) -> Outcome[R]:
        """Run jobs to their end.

        Args:
            jobs: Job id -> job, in the order in which they start.
            unit: What is counted, for the progress display.
            concurrent: Jobs under way at once; None: as many as the sampler has room for.
            meter: What is done, out of how many, and further numbers; None: rows are counted.

        Raises:
            Interrupted: `ctx.stopping()`; finished calls are journaled.
            StageError: The sampler ended early, or the journal belongs to other code.
        """
        enough = len(jobs)
        if self.quota is not None:
            wanted = self.quota * len(jobs) if self.quota <= 1 else self.quota
            enough = min(enough, max(1, round(wanted)))
        deadline = math.inf if self.deadline_minutes is None else 60 * self.deadline_minutes
        runner = _Runner(ctx, ctx.journal(Call), jobs, enough, deadline, unit)
        runner.concurrent, runner.meter = concurrent or len(jobs), meter
        return runner.run(self)


@dataclass
class _Running(Generic[R]):
    """A job under way: its calls so far, and those that it waits for (one, or several at once)."""

    steps: Steps[R]
    calls: int = 0
    several: bool = False
    answers: dict[int, Call | None] = field(default_factory=dict)

    def answered(self) -> Call | list[Call] | None:
        """What to send to the job; None while an answer is missing, and at the start."""
        calls = [call for call in self.answers.values() if call is not None]
        if len(calls) < len(self.answers) or not calls:
            return None
        return calls if self.several else calls[0]


class _Runner(Generic[R]):
    """One attempt at a stage's jobs."""

    def __init__(
        self,
        ctx: StageContext,
        journal: Journal,
        jobs: Mapping[str, Job[R]],
        enough: int,
        deadline: float,
        unit: str,
    ) -> None:
        self.ctx, self.journal, self.jobs, self.enough, self.deadline, self.unit = (
            ctx, journal, jobs, enough, deadline, unit,
        )  # fmt: skip
        self.recorded: dict[str, dict[int, Call]] = {}
        for call in journal.rows():
            assert isinstance(call, Call)
            self.recorded.setdefault(call.prompt_id, {})[call.index] = call
        self.outcome: Outcome[R] = Outcome()
        self.concurrent = len(jobs)
        self.meter: Meter | None = None
        self.running: dict[str, _Running[R]] = {}
        self.ready: deque[tuple[tuple[str, int], Ask]] = deque()
        self.asked: dict[tuple[str, int], tuple[Ask, int]] = {}
        self.waiting = iter(jobs.items())
        # Slots with equal weights are one policy, whatever role they play.
        self.versions = {slot: model.version for slot, model in ctx.models.items()}
        self.policies: dict[str, ModelRef] = {}
        for slot, model in ctx.models.items():
            known = self.policies.setdefault(model.digest, model)
            self.versions[slot] = known.version

    def run(self, stage: JobStage) -> Outcome[R]:
        """See `JobStage.run_jobs`."""
        requests = self._requests()
        first = next(requests, None)
        if first is not None:  # else everything was in the journal: no model is needed
            self._progress(status=f"loading {', '.join(m.version for m in self.policies.values())}")
            sampler = open_sampler(self.ctx, stage.sampler, *self.policies.values())
            self._progress()
            for drawn in sampler.generate(itertools.chain([first], requests), self.ctx.stopping):
                self._answered(drawn)
                self._progress()
            if self.ctx.stopping():
                raise Interrupted
            if self.asked or next(requests, None) is not None:
                calls = len(self.asked) + len(self.ready)
                raise StageError(
                    f"{self.ctx.name}: the sampler ended with {calls} calls open; run it again, "
                    "finished ones are kept"
                )
        left = len(self.running) + sum(1 for _ in self.waiting)
        if left and len(self.outcome.rows) < self.enough:  # nothing but the deadline leaves jobs undone
            self.outcome.gave_up["deadline"] += left
        self.outcome.rows = {j: self.outcome.rows[j] for j in self.jobs if j in self.outcome.rows}
        return self.outcome

    def _requests(self) -> Iterator[Request | None]:
        """Calls to make, the next of running jobs before new jobs; None while all is under way."""
        while True:
            if self.deadline < math.inf and self.ctx.seconds() > self.deadline:
                self.ready.clear()  # jobs still start: what they have in the journal counts
            if self.ready:
                yield self._request(*self.ready.popleft())
            elif self._more_wanted() and self._start():
                pass
            elif self.asked:
                yield None
            else:
                return

    def _more_wanted(self) -> bool:
        under_way = len(self.running)
        return under_way < self.concurrent and len(self.outcome.rows) + under_way < self.enough

    def _start(self) -> bool:
        """Start the next job and feed it what is journaled."""
        job_id, job = next(self.waiting, (None, None))
        if job_id is None or job is None:
            return False
        self.running[job_id] = _Running(job(self._reject))
        self._advance(job_id)
        return True

    def _reject(self, reason: str) -> None:
        self.outcome.rejected[reason] += 1

    def _advance(self, job_id: str) -> None:
        """Send a job its answers, and all further answers that are known already."""
        running = self.running[job_id]
        try:
            while True:
                wanted = running.steps.send(running.answered())
                running.several = isinstance(wanted, tuple)
                running.answers = {}
                for ask in wanted if isinstance(wanted, tuple) else (wanted,):
                    self._asks(job_id, running, ask)
                if any(call is None for call in running.answers.values()):
                    return
        except StopIteration as end:
            del self.running[job_id]
            if isinstance(end.value, GaveUp):
                self.outcome.gave_up[end.value.reason] += 1
            else:
                self.outcome.rows[job_id] = end.value

    def _asks(self, job_id: str, running: _Running[R], ask: Ask) -> None:
        """Take the answer from the journal, or have the call made."""
        number = running.calls
        running.calls += 1
        call = self.recorded.get(job_id, {}).get(number)
        running.answers[number] = call
        if call is None:
            self.ready.append(((job_id, number), ask))
        elif call.step != ask.step:
            raise StageError(
                f"{self.ctx.name}: the journal has step {call.step!r} where job {job_id} asks for "
                f"{ask.step!r}; it was written by other code: remove {self.ctx.work}"
            )
        else:
            self._count(call)

    def _request(self, key: tuple[str, int], ask: Ask) -> Request:
        seed = seed_for(self.ctx.seed, *key)
        self.asked[key] = (ask, seed)
        version = self.versions[ask.model] if len(self.policies) > 1 else None
        return Request(key, ask.messages, seed, ask.params, ask.continue_final, fit=True, policy=version)

    def _answered(self, drawn: Sampled) -> None:
        ask, seed = self.asked.pop(drawn.key)
        job_id, number = drawn.key
        call = Call(
            prompt_id=job_id,
            index=number,
            seed=seed,
            completion=drawn.text,
            finish=drawn.finish,
            tokens=drawn.tokens,
            policy=self.ctx.models[ask.model].version,
            step=ask.step,
            meta=ask.then(drawn) if ask.then else {},
            generated=drawn.generated,
        )
        self.journal.append(call)
        self._count(call)
        running = self.running[job_id]
        running.answers[number] = call
        if None not in running.answers.values():
            self._advance(job_id)

    def _count(self, call: Call) -> None:
        self.outcome.calls[call.step] += 1
        self.outcome.tokens += call.tokens
        self.outcome.differ += call.generated is not None and call.generated.reencodes is False

    def _progress(self, **extra: Any) -> None:
        spare = len(self.jobs) - self.enough
        total = self.enough - max(0, self.outcome.gave_up.total() - spare)
        calls = self.outcome.calls.total()
        done = len(self.outcome.rows)
        if self.meter is not None:
            done, total, more = self.meter()
            extra = more | extra
        self.ctx.progress(done, total, self.unit, calls=calls, tokens=self.outcome.tokens, **extra)

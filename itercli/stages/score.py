"""Stage `score`: judge completions, on all cores, while sampling goes on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.engine.encode import encode
from itercli.recipe.fields import Scorer
from itercli.records import Prompt, Score, Trajectory
from itercli.registry import how, register
from itercli.stages.base import ArtifactKind, Lender, Link, Stage, StageContext
from itercli.stages.carrying import carried
from itercli.stages.failures import Failures
from itercli.training.base import Interrupted
from itercli.verifiers.contract import CheckedJudge, Unscored

DEFAULT_MAX_FAILED = 0.01
MAX_FAILED = (
    "Share of the rows that the scorer may fail on (an exception, NaN), one at least; 0: none. They are "
    "left out, counted and kept in failed.json."
)


@register("stage", "score")
class ScoreStage(Stage):
    """Scores every trajectory of a `sample` stage."""

    OUTPUT = "scores"
    ROWWISE: ClassVar[Mapping[str, ArtifactKind]] = {"of": "trajectories", "prompts": "prompts"}
    NOT_IN_ROWS = frozenset({"max_failed"})
    STREAMS = frozenset({"of"})
    WITH_PROMPTS = True

    uses: Literal["score"] = "score"
    of: str = Field(description="The `sample` stage to score.")
    scorer: Scorer = Field(description="Which scorer judges.")
    max_failed: float = Field(DEFAULT_MAX_FAILED, ge=0, le=1, description=MAX_FAILED)
    workers: int = how(default=0, ge=0, description="Checks at once; 0 is one per core.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def check(self) -> list[tuple[str, str, str]]:
        if self.of.startswith("all."):
            return [("of", "rows of several iterations have the same keys", "one `sample` stage")]
        return []

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"]
        if self.max_failed == DEFAULT_MAX_FAILED:  # keys from before there was a budget stay
            del params["max_failed"]
        return params

    def fingerprint(self) -> dict[str, Any]:
        return self.scorer.fingerprint()

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        journal = ctx.journal(Score)
        workers = self.workers or os.cpu_count() or 1
        judge = CheckedJudge(self.scorer.NAME, self.scorer.open())
        failures = Failures(ctx, self.max_failed)

        def judge_one(trajectory: Trajectory) -> Score | Unscored:
            row = judge.score(prompts[trajectory.prompt_id], trajectory)
            return row if isinstance(row, Unscored) else _unanswered(carried(row, trajectory), trajectory)

        judged = {r.key: r.completion for r in journal.rows()}  # type: ignore[attr-defined]
        # Rows whose completion was drawn again, differently, after its own journal was lost.
        replaced: dict[tuple[str, int], Score] = {}
        passed = sum(r.passed is True for r in journal.rows())  # type: ignore[attr-defined]
        done = len(journal.done)
        loans: dict[tuple[str, int], _Loan] | None = None
        pending: set[Future[Score | Unscored]] = set()

        def collect(block: bool) -> None:
            nonlocal pending, done, passed
            if not pending:
                return
            finished, pending = wait(pending, timeout=None if block else 0, return_when=FIRST_COMPLETED)
            totals = [a.count() for a in ctx.inputs["of"]]
            total = sum(t for t in totals if t is not None) if None not in totals else None
            for future in finished:
                score = future.result()
                if isinstance(score, Unscored):
                    failures.add(score, total)
                    continue
                if score.key in judged:
                    replaced[score.key] = score
                    continue
                journal.append(score)
                done += 1
                passed += score.passed is True
            ctx.progress(done + len(failures.rows), total, "scores", passed=round(passed / max(done, 1), 3))

        with ThreadPoolExecutor(workers) as pool:
            try:
                for artifact in ctx.inputs["of"]:
                    for trajectory in artifact.follow(Trajectory):
                        if ctx.stopping():
                            raise Interrupted
                        if trajectory is not None and judged.get(trajectory.key) != trajectory.completion:
                            if loans is None:  # not before: whose the samples are is noted with the first
                                loans = _loans(ctx, prompts)
                            loan = loans.get(trajectory.key)
                            if loan and loan.of == _digest(trajectory) and trajectory.key not in judged:
                                journal.append(loan.score)
                                done += 1
                                passed += loan.score.passed is True
                                ctx.borrowed(loan.lender)
                            else:
                                pending.add(pool.submit(judge_one, trajectory))
                        # A bounded queue: what is read ahead would be lost work on a stop.
                        collect(block=len(pending) >= 2 * workers)
                while pending:
                    collect(block=True)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                judge.close()
        failures.check(done + len(failures.rows))
        order = {p: n for n, p in enumerate(prompts)}
        rows = [replaced.get(r.key, r) for r in journal.rows()]
        rows.sort(key=lambda r: (order[r.key[0]], r.key[1]))
        outcomes = Counter(r.outcome for r in rows)  # type: ignore[attr-defined]
        counts = {k or "scored": v for k, v in sorted(outcomes.items())}
        ctx.finish_rows(Score, iter(rows), **counts, **failures.finish())


@dataclass(frozen=True, slots=True)
class _Loan:
    """A score of an earlier artifact, and a digest of the completion that it is of."""

    score: Score
    of: bytes
    lender: Lender


def _loans(ctx: StageContext, prompts: dict[str, Prompt]) -> dict[tuple[str, int], _Loan]:
    """Scores of unchanged prompts; whether the completion is the same is seen when it comes."""
    loans: dict[tuple[str, int], _Loan] = {}
    for lender in ctx.lenders():
        same = {p.id for p in lender.inputs("prompts", "prompts", Prompt) if p == prompts.get(p.id)}
        sampled = lender.inputs("of", "trajectories", Trajectory) if same else ()
        known = {t.key: _digest(t) for t in sampled if t.prompt_id in same}
        for score in lender.rows(Score) if known else ():
            if score.key in known and score.key not in loans:
                loans[score.key] = _Loan(score, known[score.key], lender)
    return loans


def _digest(trajectory: Trajectory) -> bytes:
    return blake2b(encode(trajectory), digest_size=16).digest()


def _unanswered(score: Score, trajectory: Trajectory) -> Score:
    """The score of a completion that could not be sampled: it did not pass, whatever the scorer thinks."""
    if trajectory.finish != "error":
        return score
    why = str(trajectory.meta.get("error", "nothing could be sampled"))
    passed = None if score.passed is None else False
    return score.model_copy(update={"passed": passed, "outcome": "no_answer", "message": why})

"""Jobs of several calls: order, replay after a kill, enough rows, deadlines, several models."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from itercli.recipe.seeds import seed_for
from itercli.records import Call, Message, ModelRef, Trajectory
from itercli.sampling.base import Sampled, SamplingParams
from itercli.stages.base import StageError
from itercli.stages.jobs import Ask, GaveUp, Job, Outcome, Reject, Steps
from itercli.training.base import Interrupted
from tests.stages.bench import POLICY, SEED, Bench, Killed, Slots, die

TURNS = (Message(role="user", content="Go."),)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def row(job_id: str, text: str, policy: str = "policy@1") -> Trajectory:
    return Trajectory(
        prompt_id=job_id, index=0, seed=seed_for(SEED, job_id), completion=text, finish="stop", tokens=2,
        policy=policy,
    )  # fmt: skip


def collect(job_id: str) -> Job[Trajectory]:
    """Asks until an answer can be divided by three; gives up after three answers."""

    def job(reject: Reject) -> Steps[Trajectory]:
        texts: list[str] = []
        for step in ("first", "again", "again"):
            call = yield Ask(step, (*TURNS, Message(role="user", content=" ".join(texts))), SamplingParams())
            texts.append(f"{call.completion}/{call.seed}")
            if int(call.completion) % 3 == 0:
                return row(job_id, " ".join(texts))
            reject("not by three")
        return GaveUp("three tries")

    return job


JOBS = {f"j{n}": collect(f"j{n}") for n in range(12)}


def once(job_id: str) -> Job[Trajectory]:
    def job(reject: Reject) -> Steps[Trajectory]:
        call = yield Ask("only", TURNS, SamplingParams())
        return row(job_id, call.completion)

    return job


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome[Trajectory], list[Call]]:
    """What comes of the jobs one after the other, undisturbed."""
    bench = Bench(tmp_path_factory.mktemp("plain"))
    outcome = bench.run(JOBS, Slots())
    assert len(outcome.rows) >= 6
    assert outcome.gave_up["three tries"] >= 2
    assert outcome.calls["again"] >= 5
    return outcome, bench.journaled


def key(call: Call) -> tuple[str, int]:
    return call.prompt_id, call.index


# -- order and replay --------------------------------------------------------------------


@pytest.mark.parametrize(("width", "order"), [(1, 0), (3, 1), (3, 2), (7, 3), (50, 4), (50, 5)])
def test_rows_do_not_depend_on_the_order_of_answers(
    bench: Bench, plain: tuple[Outcome[Trajectory], list[Call]], width: int, order: int
) -> None:
    outcome = bench.run(JOBS, Slots(width, random.Random(order)))
    assert list(outcome.rows.items()) == list(plain[0].rows.items())
    assert list(outcome.rows) == [j for j in JOBS if j in outcome.rows]
    assert outcome.counts == plain[0].counts
    assert sorted(bench.journaled, key=key) == sorted(plain[1], key=key)


def test_counts_say_what_it_took(plain: tuple[Outcome[Trajectory], list[Call]]) -> None:
    outcome, calls = plain
    done, gave_up = len(outcome.rows), outcome.gave_up["three tries"]
    assert done + gave_up == len(JOBS)
    assert outcome.counts == {
        "rejected: not by three": len(calls) - done,
        "gave up: three tries": gave_up,
        "calls: again": len(calls) - len(JOBS),
        "calls: first": len(JOBS),
        "tokens": 2 * len(calls),
    }


def test_every_call_has_a_seed_of_its_own(
    bench: Bench, plain: tuple[Outcome[Trajectory], list[Call]]
) -> None:
    sampler = Slots()
    bench.run(JOBS, sampler)
    assert all(r.seed == seed_for(SEED, *r.key) for r in sampler.asked)
    assert len({r.seed for r in sampler.asked}) == len(sampler.asked)
    assert all(r.fit and r.policy is None and not r.continue_final for r in sampler.asked)
    assert [(key(c), c.seed, c.step) for c in plain[1]] == [(key(c), c.seed, c.step) for c in bench.journaled]


@pytest.mark.parametrize("width", [1, 4])
def test_killed_after_any_call_gives_the_same(
    tmp_path: Path, plain: tuple[Outcome[Trajectory], list[Call]], width: int
) -> None:
    outcome, calls = plain
    for k in range(1, len(calls) + 1):
        bench = Bench(tmp_path / str(k))
        with pytest.raises(Killed):
            bench.run(JOBS, Slots(width, random.Random(k), after=die(k)))
        kept = {key(c) for c in bench.journaled}
        assert len(kept) == k
        sampler = Slots(width, random.Random(k + 100))
        again = bench.run(JOBS, sampler)
        assert {r.key for r in sampler.asked} == {key(c) for c in calls} - kept
        assert list(again.rows.items()) == list(outcome.rows.items())
        assert again.counts == outcome.counts
        assert sorted(bench.journaled, key=key) == sorted(calls, key=key)
        assert len(sampler.loaded) == (k < len(calls))


# -- several calls at once ---------------------------------------------------------------


def test_several_at_once_and_what_they_act_on_survive_a_kill(tmp_path: Path) -> None:
    """A job gets its answers in the order asked; `then` acts once per call, killed or not."""

    def job(reject: Reject) -> Steps[Trajectory]:
        seen = []
        for turn in range(2):
            asks = tuple(
                Ask(f"turn{turn}", (*TURNS, Message(role="user", content=str(n))), SamplingParams(), then=act)
                for n in range(3)
            )
            calls = yield asks
            assert [c.index for c in calls] == [3 * turn + n for n in range(3)]
            seen += [f"{c.completion}:{c.meta['acted']}" for c in calls]
        last = yield Ask("last", TURNS, SamplingParams())
        return row("j", " ".join([*seen, last.completion]))

    acted: list[str] = []

    def act(drawn: Sampled) -> dict[str, Any]:
        acted.append(drawn.text)
        return {"acted": f"<{drawn.text}>"}

    whole = Bench(tmp_path / "whole").run({"j": job}, Slots(3, random.Random(0)))
    assert len(acted) == 6
    assert whole.calls == {"turn0": 3, "turn1": 3, "last": 1}
    for k in range(1, 7):
        bench = Bench(tmp_path / str(k))
        acted.clear()
        with pytest.raises(Killed):
            bench.run({"j": job}, Slots(2, random.Random(k), after=die(k)))
        assert bench.run({"j": job}, Slots(3, random.Random(k + 50))).rows == whole.rows
        assert len(acted) == 6


def test_with_everything_journaled_no_sampler_is_opened(
    bench: Bench, plain: tuple[Outcome[Trajectory], list[Call]]
) -> None:
    bench.run(JOBS, Slots())
    sampler = Slots()
    assert bench.run(JOBS, sampler) == plain[0]
    assert sampler.loaded == sampler.asked == []


def test_no_jobs_no_sampler(bench: Bench) -> None:
    sampler = Slots()
    assert bench.run({}, sampler, quota=0.5) == Outcome()
    assert sampler.loaded == []


def test_stopping_keeps_finished_calls(bench: Bench, plain: tuple[Outcome[Trajectory], list[Call]]) -> None:
    def after(answers: int) -> None:
        if answers == 5:
            bench.stop.set()

    with pytest.raises(Interrupted):
        bench.run(JOBS, Slots(3, after=after))
    assert len(bench.journaled) == 5
    bench.stop.clear()
    sampler = Slots(3)
    assert bench.run(JOBS, sampler).rows == plain[0].rows
    assert len(sampler.asked) == len(plain[1]) - 5


@pytest.mark.parametrize("end", [1, 4, 12])
def test_sampler_that_ends_early_is_an_error(bench: Bench, end: int) -> None:
    with pytest.raises(StageError, match=r"iteration-01/extend: the sampler ended with \d+ calls open"):
        bench.run(JOBS, Slots(end=end))
    assert len(bench.journaled) == end


def test_sampler_that_ends_between_jobs_is_an_error(bench: Bench) -> None:
    # Nothing is under way then: what was never begun counts, too.
    with pytest.raises(StageError, match="calls open"):
        bench.run({f"j{n}": once(f"j{n}") for n in range(4)}, Slots(end=2))


def test_journal_of_other_code_names_what_to_remove(bench: Bench) -> None:
    bench.run({"j0": once("j0")}, Slots())
    with pytest.raises(StageError) as error:
        bench.run({"j0": collect("j0")}, Slots())
    assert str(error.value) == (
        "iteration-01/extend: the journal has step 'only' where job j0 asks for 'first'; it was written by "
        f"other code: remove {bench.entry.path}"
    )


# -- enough rows --------------------------------------------------------------------------


@pytest.mark.parametrize(("quota", "wanted"), [(0.25, 3), (3, 3), (0.01, 1), (1, 12), (5, 5), (500, 12)])
@pytest.mark.parametrize(("width", "order"), [(1, 0), (4, 1), (4, 2), (50, 3)])
def test_quota_takes_the_smallest_prefix(
    bench: Bench,
    plain: tuple[Outcome[Trajectory], list[Call]],
    quota: float,
    wanted: int,
    width: int,
    order: int,
) -> None:
    outcome = bench.run(JOBS, Slots(width, random.Random(order)), quota=quota)
    every = list(plain[0].rows.items())
    assert list(outcome.rows.items()) == every[:wanted]
    # Not one job more than it took to get there has been begun.
    last = every[wanted - 1][0] if wanted <= len(every) else "j11"
    begun = list(JOBS)[: list(JOBS).index(last) + 1]
    assert {c.prompt_id for c in bench.journaled} == set(begun)
    assert "deadline" not in outcome.gave_up
    assert outcome.gave_up.total() == len(begun) - len(outcome.rows)


def test_progress_ends_at_what_can_be_had(bench: Bench) -> None:
    outcome = bench.run(JOBS, Slots(), quota=0.25)
    last = [m for m in bench.messages if m["t"] == "progress"][-1]
    assert (last["done"], last["total"], last["unit"]) == (3, 3, "texts")
    assert last["metrics"] == {"calls": outcome.calls.total(), "tokens": outcome.tokens}


# -- deadline -----------------------------------------------------------------------------


class Clock:
    """Working time that passes only when something is answered, and jumps between attempts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1e6
        monkeypatch.setattr("itercli.engine.clock.time", SimpleNamespace(monotonic=lambda: self.now))

    def minute(self, answers: int) -> None:
        self.now += 60

    def reboot(self) -> None:
        self.now = 17.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_deadline_gives_up_what_is_open_and_keeps_the_rest(
    bench: Bench, clock: Clock, plain: tuple[Outcome[Trajectory], list[Call]]
) -> None:
    outcome = bench.run(JOBS, Slots(3, random.Random(0), after=clock.minute), deadline_minutes=8)
    calls = bench.journaled
    # Late after the ninth answer; two more were under way.
    assert len(calls) == 11
    assert 0 < len(outcome.rows) < len(plain[0].rows)
    assert all(plain[0].rows[j] == made for j, made in outcome.rows.items())
    ended = len(outcome.rows) + outcome.gave_up["three tries"]
    assert outcome.gave_up["deadline"] == len(JOBS) - ended
    assert outcome.counts["gave up: deadline"] == outcome.gave_up["deadline"]


def test_no_job_under_way_at_the_deadline_counts_the_rest(bench: Bench, clock: Clock) -> None:
    jobs = {f"j{n}": once(f"j{n}") for n in range(10)}
    outcome = bench.run(jobs, Slots(1, after=clock.minute), deadline_minutes=3)
    assert list(outcome.rows) == ["j0", "j1", "j2", "j3"]
    assert outcome.gave_up == {"deadline": 6}


def test_in_time_there_is_no_word_of_a_deadline(
    bench: Bench, clock: Clock, plain: tuple[Outcome[Trajectory], list[Call]]
) -> None:
    assert bench.run(JOBS, Slots(3, after=clock.minute), deadline_minutes=500) == plain[0]


def test_working_time_adds_up_over_attempts(bench: Bench, clock: Clock) -> None:
    jobs = {f"j{n}": once(f"j{n}") for n in range(20)}

    def die(answers: int) -> None:
        clock.minute(answers)
        if answers == 4:
            raise Killed

    for attempt in range(2):
        with pytest.raises(Killed):
            bench.run(jobs, Slots(after=die), deadline_minutes=10)
        assert len(bench.journaled) == 4 * (attempt + 1)
        clock.reboot()
    # Three of four minutes of each attempt were noted before it was killed.
    outcome = bench.run(jobs, Slots(after=clock.minute), deadline_minutes=10)
    assert len(outcome.rows) == 8 + 5
    assert outcome.gave_up == {"deadline": 7}


def test_killed_after_the_deadline_keeps_finished_rows(bench: Bench, clock: Clock) -> None:
    first = bench.run(JOBS, Slots(3, random.Random(0), after=clock.minute), deadline_minutes=8)
    clock.reboot()  # the process died before the artifact was sealed
    sampler = Slots()
    again = bench.run(JOBS, sampler, deadline_minutes=8)
    assert again == first
    assert sampler.loaded == []


def test_clock_is_no_part_of_the_artifact(bench: Bench, clock: Clock) -> None:
    bench.run(JOBS, Slots(after=clock.minute), deadline_minutes=8)
    assert (bench.entry.path / "clock.json").exists()
    sealed = bench.entry.finish(
        ingredients={}, inputs={}, models={}, rows=0, record=None, counts={}, metrics={}, seconds=1, work={}
    )
    assert sealed["files"] == {}
    assert not (bench.entry.path / "clock.json").exists()


def test_work_of_another_origin_takes_its_time_along(bench: Bench, clock: Clock) -> None:
    assert not bench.entry.continue_from({"input": "a"})
    bench.run(JOBS, Slots(after=clock.minute), deadline_minutes=8)
    assert bench.entry.continue_from({"input": "b"})
    clock.reboot()
    assert len(bench.run(JOBS, Slots(50), deadline_minutes=8).rows) > 5


def test_clock_torn_by_a_kill_starts_again(bench: Bench, clock: Clock) -> None:
    (bench.entry.path / "clock.json").write_text("")
    assert bench.run({"j0": once("j0")}, Slots(), deadline_minutes=8).rows


# -- several models -----------------------------------------------------------------------


def ask_both(reject: Reject) -> Steps[Trajectory]:
    written = yield Ask("write", TURNS, SamplingParams())
    turns = (*TURNS, Message(role="assistant", content="Yes or no:"))
    judged = yield Ask("judge", turns, SamplingParams(max_new_tokens=4), "judge", continue_final=True)
    return row("j0", f"{written.completion} {judged.completion}", f"{written.policy} {judged.policy}")


@pytest.mark.parametrize("digest", ["sha:policy", "sha:judge"])
def test_equal_weights_are_one_policy(bench: Bench, digest: str) -> None:
    judge = ModelRef(base="w", version="judge@0", digest=digest)
    sampler = Slots()
    outcome = bench.run({"j0": ask_both}, sampler, {"policy": POLICY, "judge": judge})
    same = digest == POLICY.digest
    assert sampler.loaded == [(POLICY,) if same else (POLICY, judge)]
    assert [r.policy for r in sampler.asked] == ([None, None] if same else ["policy@1", "judge@0"])
    assert [r.continue_final for r in sampler.asked] == [False, True]
    assert sampler.asked[1].params.max_new_tokens == 4
    # Rows name the role that was asked, whatever weights answered.
    assert outcome.rows["j0"].policy == "policy@1 judge@0"
    assert [c.policy for c in bench.journaled] == ["policy@1", "judge@0"]

"""`score`: one bad row is recorded and left out, more than `max_failed` end the stage by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itercli.errors import IterError
from itercli.records import Message, Prompt, Score, Trajectory
from itercli.stages.base import StageError
from itercli.stages.evaluate import Evaluate
from itercli.stages.score import ScoreStage
from itercli.verifiers.base import Scorer
from tests.stages import context
from tests.stages.bench import Bench, Slots

PROMPTS = [Prompt(id=f"p{i}", messages=[Message(role="user", content="?")]) for i in range(10)]
DRAWN = [
    Trajectory(
        prompt_id=p.id, index=i, seed=i, completion=f"{p.id}.{i}", finish="stop", tokens=1, policy="policy@0"
    )
    for p in PROMPTS for i in range(4)
]  # fmt: skip
NAN = float("nan")


def row(t: Trajectory, **changes: Any) -> Score:
    fields = {"prompt_id": t.prompt_id, "index": t.index, "completion": t.completion, "policy": t.policy,
              "value": 1.0, "passed": t.index % 2 == 0, "outcome": "ok"}  # fmt: skip
    return Score(**fields | changes)


class Judge:
    def __init__(self, bad: Callable[[Trajectory], Any], which: set[tuple[str, int]]) -> None:
        self.bad, self.which = bad, which

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Any:
        return self.bad(trajectory) if trajectory.key in self.which else row(trajectory)

    def close(self) -> None: ...


class Own(Scorer):
    """Not registered: given to the stage as it is."""

    NAME = "own"

    def open(self) -> Judge:
        return JUDGE[0]


JUDGE: list[Judge] = []
ONE = {("p3", 1)}


def scored(
    path: Path, bad: Callable[[Trajectory], Any], which: set[tuple[str, int]] = ONE, **options: Any
) -> tuple[Bench, list[Score]]:
    JUDGE[:] = [Judge(bad, which)]
    bench = Bench(path, "scores")
    stage = ScoreStage(of="sample", scorer=Own(), workers=2, **options)
    return bench, bench.stage(stage, Slots(), Score, prompts=PROMPTS, of=DRAWN)


def boom(t: Trajectory) -> Score:
    raise KeyError("no such field")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda t: row(t, value=NAN), "value is nan, not a finite number"),
        (lambda t: row(t, value=np.float32("inf")), "value is inf"),
        (lambda t: row(t).model_copy(update={"value": None}), "Score.value: Input should be a valid number"),
        (lambda t: row(t, value="high"), "Score.value: Input should be a valid number"),
        (lambda t: row(t, index=7), "gave a Score of prompt 'p3', sample 7"),
        (lambda t: row(t, prompt_id="p4"), "gave a Score of prompt 'p4', sample 1"),
        (lambda t: {"value": 1.0}, "gave a dict, not a Score"),
        (lambda t: None, "gave a NoneType, not a Score"),
        (lambda t: row(t, meta={"x": np.float32(1)}), "meta.x is a float32, which JSON has no form for"),
        (lambda t: row(t, message="\ud800"), "message holds half a surrogate pair"),
        (boom, "KeyError: 'no such field' (test_score.py:"),
    ],
)  # fmt: skip
def test_one_bad_row_is_left_out_and_named(
    tmp_path: Path, bad: Callable[[Trajectory], Any], said: str
) -> None:
    bench, rows = scored(tmp_path, bad)
    assert [r.key for r in rows] == [t.key for t in DRAWN if t.key not in ONE]
    assert bench.counts == {"ok": 39, "not scored": 1}
    (kept,) = json.loads((bench.entry.path / "failed.json").read_text())
    assert (kept["scorer"], kept["prompt_id"], kept["index"]) == ("own", "p3", 1)
    assert said in kept["reason"]
    (note,) = [m["fields"]["text"] for m in bench.messages if m.get("event") == "note"]
    assert f"scorer own, prompt 'p3', sample 1: {kept['reason']}" in note


def test_more_than_max_failed_end_the_stage_with_the_list(tmp_path: Path) -> None:
    which = {("p0", 0), ("p1", 0), ("p2", 0)}
    with pytest.raises(StageError) as caught:
        scored(tmp_path / "a", lambda t: row(t, value=NAN), which, max_failed=0.05)
    assert "3 of 40 rows could not be scored" in str(caught.value)
    assert all(
        f"scorer own, prompt '{p}', sample 0: value is nan" in str(caught.value) for p in ("p0", "p1", "p2")
    )
    assert "`max_failed: 0.05` lets 2 of 40 fail" in str(caught.value)
    bench, rows = scored(tmp_path / "b", lambda t: row(t, value=NAN), which, max_failed=0.075)
    assert (len(rows), bench.counts["not scored"]) == (37, 3)
    with pytest.raises(StageError, match="`max_failed: 0` lets 0 of 40 fail"):
        scored(tmp_path / "c", boom, max_failed=0)


def test_a_stage_whose_rows_all_failed_has_no_result(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="40 of 40 rows could not be scored"):
        scored(tmp_path, boom, {t.key for t in DRAWN}, max_failed=1)


def test_a_scorer_that_says_that_it_cannot_go_on_is_believed(tmp_path: Path) -> None:
    def refuse(t: Trajectory) -> Score:
        raise IterError("no simulator here")

    with pytest.raises(IterError, match=r"^no simulator here$"):
        scored(tmp_path, refuse, max_failed=1)


def test_a_measure_that_is_not_finite_is_missing(tmp_path: Path) -> None:
    _, rows = scored(tmp_path, lambda t: row(t, meta={"depth": NAN, "words": 2}))
    assert next(r for r in rows if r.key in ONE).meta == {"depth": None, "words": 2}


def test_a_sample_without_an_answer_did_not_pass(tmp_path: Path) -> None:
    JUDGE[:] = [Judge(lambda t: row(t, passed=True), ONE)]
    lost = {"finish": "error", "completion": "", "meta": {"error": "no room"}}
    of = [t.model_copy(update=lost) if t.key in ONE else t for t in DRAWN]
    bench = Bench(tmp_path, "scores")
    rows = bench.stage(ScoreStage(of="sample", scorer=Own()), Slots(), Score, prompts=PROMPTS, of=of)
    (one,) = (r for r in rows if r.key in ONE)
    assert (one.passed, one.outcome, one.message) == (False, "no_answer", "no room")
    assert bench.counts == {"ok": 39, "no_answer": 1}


def test_the_default_budget_leaves_keys_as_they_were() -> None:
    assert "max_failed" not in ScoreStage(of="sample", scorer=Own()).key_params()
    assert ScoreStage(of="sample", scorer=Own(), max_failed=0).key_params()["max_failed"] == 0


def test_an_evaluation_counts_what_was_scored() -> None:
    stage = Evaluate(role="policy", prompts="tasks", n=4, metrics=("pass@1", "pass@4"), by=None)
    rows = [row(t) for t in DRAWN if t.prompt_id != "p0" and t.key != ("p1", 1)]
    metrics = context.run(stage, prompts=PROMPTS, scores=rows).metrics
    # p0 has no score at all, p1 three of four: two of its three pass.
    assert metrics["pass@1"]["value"] == pytest.approx((8 * 0.5 + 2 / 3) / 9)
    assert (metrics["pass@1"]["prompts"], metrics["pass@1"]["missing"]) == (9, 1)
    assert (metrics["pass@4"]["prompts"], metrics["pass@4"]["missing"]) == (8, 2)

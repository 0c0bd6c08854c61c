"""What is new in a run, from its files alone."""

from __future__ import annotations

from typing import Any

from itercli.tracking.base import Point
from itercli.tracking.feed import Batch, Feed, numbers
from tests.tracking.conftest import FakeRun
from tests.tracking.plugin import Record


def take(fake: FakeRun, sent: dict[str, Any]) -> list[Batch]:
    batches = list(Feed(fake.run, Record(), sent).news())
    sent |= {b.id: b.mark for b in batches}
    return batches


def points(batches: list[Batch]) -> list[Point]:
    return [p for b in batches for p in b.content if isinstance(p, Point)]  # type: ignore[union-attr]


def test_metrics_once_and_again_when_they_change(fake: FakeRun) -> None:
    sent: dict[str, Any] = {}
    fake.stage("before/evaluate", 0, "metrics", "k0", {"pass@1": {"value": 0.2, "low": 0.1, "high": 0.3}})
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"pass@1": 0.4})
    assert points(take(fake, sent)) == [
        Point(
            "iteration",
            0,
            {"evaluate/pass@1": 0.2, "evaluate/pass@1_low": 0.1, "evaluate/pass@1_high": 0.3},
        ),
        Point("iteration", 1, {"evaluate/pass@1": 0.4}),
    ]  # fmt: skip
    assert take(fake, sent) == []
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"pass@1": 0.5})  # done again
    assert points(take(fake, sent)) == [Point("iteration", 1, {"evaluate/pass@1": 0.5})]


def test_a_stage_after_the_loop_keeps_its_own_name(fake: FakeRun) -> None:
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"pass@1": 0.4})
    fake.stage("after/evaluate", 1, "metrics", "k2", {"pass@1": 0.9})
    assert [p.values for p in points(take(fake, {}))] == [
        {"evaluate/pass@1": 0.4},
        {"after/evaluate/pass@1": 0.9},
    ]


def test_global_steps_go_on_over_iterations(fake: FakeRun) -> None:
    sent: dict[str, Any] = {}
    for i in (1, 2):
        fake.stage(f"iteration-0{i}/train", i, "model", f"m{i}", {})
    fake.steps("m1", [4.0, 3.0], done=False)
    assert [(p.axis, p.at, p.values) for p in points(take(fake, sent))] == [
        ("global_step", 1, {"training/train.loss": 4.0}),
        ("global_step", 2, {"training/train.loss": 3.0}),
    ]
    fake.steps("m2", [1.0], done=False)  # left by another run: where it starts isn't known yet
    fake.steps("m1", [4.0], done=False)  # resumed from a checkpoint: step 2 is on its way again
    assert take(fake, sent) == []
    fake.steps("m1", [4.0, 3.0, 2.0], done=True)
    assert [p.at for p in points(take(fake, sent))] == [3, 4]
    assert take(fake, sent) == []


def test_other_options_are_another_training(fake: FakeRun) -> None:
    sent: dict[str, Any] = {}
    fake.stage("iteration-01/train", 1, "model", "m1", {})
    fake.steps("m1", [4.0, 3.0], done=True)
    take(fake, sent)
    fake.stage("iteration-01/train", 1, "model", "other", {})
    fake.steps("other", [5.0], done=False)
    assert [p.values for p in points(take(fake, sent))] == [{"training/train.loss": 5.0}]


def test_what_is_no_number_is_left_out() -> None:
    given = {"a": 1, "b": float("nan"), "c": None, "d": "x", "e": {"value": None, "low": None, "high": None}}
    assert numbers(given, "s/") == {"s/a": 1.0}

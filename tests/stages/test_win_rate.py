"""`win_rate`: pairs by prompt, ties half, rewards and lengths of both sides; in a loop against its start."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from itercli.engine.context import Context
from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.engine.store import ROWS, Entry
from itercli.records import Message, Prompt, Record, Score, Trajectory
from itercli.stages.base import StageError
from itercli.stages.win_rate import Comparison, WinRate
from tests.conftest import Project
from tests.recipe.test_plan import EVALUATE, errors
from tests.stages.sealed import sealed

ALL = [*WinRate.model_fields["metrics"].default, "mean_reward_against", "penalised_win_rate"]
Side = dict[str, list[tuple[float, int]]]  # prompt -> (reward, characters) of each completion


def stage(**options: Any) -> WinRate:
    return WinRate.model_validate({"of": "evaluate.score", "against": "before.evaluate.score"} | options)


def context(folder: Path, ours: Side, theirs: Side, other: str = "against") -> Context:
    """Both sides' scores; the other one's completions for the slot `texts`."""

    def scores(side: Side) -> list[Record]:
        return [
            Score(prompt_id=p, index=i, completion="x" * size, policy="p@0", value=value)
            for p, drawn in side.items()
            for i, (value, size) in enumerate(drawn)
        ]

    texts: list[Record] = [
        Trajectory(
            prompt_id=s.prompt_id, index=s.index, seed=0, completion=s.completion, finish="stop",
            tokens=1, policy="p@0",
        )
        for s in scores(theirs) if isinstance(s, Score)
    ]  # fmt: skip
    prompts: list[Record] = [
        Prompt(id=p, messages=[Message(role="user", content=p)], meta={"template": f"t{n % 2}"})
        for n, p in enumerate(sorted(ours.keys() | theirs.keys()))
    ]
    rows = {"prompts": prompts, "of": scores(ours), other: scores(theirs) if other == "against" else texts}
    inputs: dict[str, list[Any]] = {}
    for slot, content in rows.items():
        inputs[slot] = [sealed(folder / slot, type(content[0]), content)]
    (folder / "out").mkdir(parents=True)
    return Context(
        name="win", iteration=1, seed=3, entry=Entry(folder / "out", "metrics", "key"), inputs=inputs,
        models={}, shared={}, stop=threading.Event(), send=lambda message: None,
    )  # fmt: skip


OURS: Side = {"a": [(1.0, 10), (3.0, 30)], "b": [(0.5, 8)], "c": [(2.0, 5)], "e": [(1.0, 1)]}
THEIRS: Side = {
    "a": [(2.0, 10), (3.0, 20)],
    "b": [(0.5, 12)],
    "c": [(1.0, 5), (math.nan, 9)],
    "d": [(1.0, 1)],
}


def test_numbers_are_those_worked_out_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stores from before rows were checked can hold NaN.
    monkeypatch.setattr("itercli.engine.rows.encode", lambda row: b"")
    ctx = context(tmp_path, OURS, THEIRS)
    stage(metrics=ALL, length_penalty=0.1).run(ctx)
    value = {name: metric["value"] for name, metric in ctx.metrics.items()}
    assert list(value) == ALL
    assert value["win_rate"] == pytest.approx((0.375 + 0.5 + 1.0) / 3)  # a: two losses, a win, a tie
    assert value["mean_reward"] == pytest.approx((2.0 + 0.5 + 2.0) / 3)
    assert value["mean_reward_against"] == pytest.approx((2.5 + 0.5 + 1.0) / 3)
    assert value["reward_gain"] == pytest.approx((-0.5 + 0 + 1.0) / 3)
    assert value["characters"] == pytest.approx((20 + 8 + 5) / 3)
    assert value["characters_against"] == pytest.approx((15 + 12 + 5) / 3)
    # Less 0.1 a character: a is 0, 0 against 1, 1; b is -0.3 against -0.7; c is won as before.
    assert value["penalised_win_rate"] == pytest.approx((0 + 1 + 1) / 3)
    for metric in ctx.metrics.values():
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["prompts"] == 3
    assert ctx.counts == {"prompts of one side only": 2, "scores that are no number": 1}
    rows = {r.prompt_id: r for r in read_rows(ctx.work / ROWS, Comparison)}
    assert list(rows) == ["a", "b", "c"]
    assert (rows["a"].win_rate, rows["a"].characters, rows["a"].reward_gain) == (0.375, 20, -0.5)
    groups = json.loads((ctx.work / "groups.json").read_text())["groups"]
    assert groups["t0"]["prompts"] == 2
    assert groups["t0"]["win_rate"]["value"] == pytest.approx((0.375 + 1) / 2)


def test_length_controlled_rate_is_of_prompts_and_says_how_it_was_fitted(tmp_path: Path) -> None:
    # Differences of +10 and -10: sigma(a) is the middle of 0.75 and 0.25 in log-odds.
    ours: Side = {
        "a": [(1, 20), (0, 20), (1, 20), (1, 20)],
        "b": [(1, 5), (0, 5), (0, 5), (0, 5)],
        "c": [(1, 20), (0, 20), (1, 20), (1, 20)],
    }
    theirs: Side = {"a": [(0.5, 10)], "b": [(0.5, 15)], "c": [(0.5, 10)]}
    ctx = context(tmp_path / "both", ours, theirs)
    stage(metrics=["win_rate", "lc_win_rate"]).run(ctx)
    assert ctx.metrics["win_rate"]["value"] == pytest.approx(1.75 / 3)
    found = ctx.metrics["lc_win_rate"]
    assert found["value"] == pytest.approx(0.5)
    assert (found["fit"], found["prompts"]) == ("ml", 3)
    assert found["effect"] > 0
    only = context(tmp_path / "one", {"a": [(1.0, 3)]}, {"a": [(0.0, 5)]})
    stage(metrics=["lc_win_rate"]).run(only)
    assert (only.metrics["lc_win_rate"]["value"], only.metrics["lc_win_rate"]["low"]) == (1.0, 1.0)
    assert only.counts["lc_win_rate: no length effect"] == 1
    split = context(
        tmp_path / "split", {"a": [(1.0, 9)], "b": [(0.0, 1)]}, {"a": [(0.5, 5)], "b": [(0.5, 5)]}
    )
    stage().run(split)
    assert split.metrics["lc_win_rate"]["fit"] == "ridge"
    assert split.counts["lc_win_rate: ridge"] == 1


def test_preferences_of_a_judge_need_only_the_other_texts(tmp_path: Path) -> None:
    options = {"against": None, "judged_against": "before.evaluate.sample"}
    chosen = ["win_rate", "lc_win_rate", "characters_against"]
    judged: Side = {"a": [(1.0, 20), (0.5, 20)], "b": [(0.0, 4), (1.0, 4)]}
    theirs: Side = {"a": [(0, 10), (0, 12)], "b": [(0, 6)]}
    ctx = context(tmp_path / "judged", judged, theirs, "texts")
    stage(**options, metrics=chosen).run(ctx)
    assert ctx.metrics["win_rate"]["value"] == pytest.approx((0.75 + 0.0) / 2)
    assert ctx.metrics["characters_against"]["value"] == pytest.approx((11 + 6) / 2)
    assert ctx.counts["scores without a text"] == 1
    rewards = context(tmp_path / "rewards", {"a": [(7.0, 2)]}, {"a": [(0, 1)]}, "texts")
    with pytest.raises(StageError, match="gives 7 to a completion of prompt a"):
        stage(**options, metrics=chosen).run(rewards)


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no scored prompt in common"):
        stage().run(context(tmp_path, {"a": [(1.0, 1)]}, {"b": [(1.0, 1)]}))


def test_a_loop_is_compared_with_its_start(project: Project) -> None:
    win = {"uses": "win_rate", "of": "evaluate.score", "against": "before.evaluate.score"}
    evaluate = json.dumps(EVALUATE).replace('"', "")
    project.run_toy(f"before.evaluate={evaluate}", f"loop.win={json.dumps(win).replace(chr(34), '')}")
    run = all_runs(project.path / "runs")[0]
    gains = []
    for iteration in (1, 2):
        entry = run.entry(f"iteration-{iteration:02d}/win")
        assert entry is not None
        assert entry.manifest is not None
        metrics = entry.manifest["metrics"]
        assert metrics["mean_reward"]["value"] - metrics["reward_gain"]["value"] == pytest.approx(
            run.entry("before/evaluate").manifest["metrics"]["pass@1"]["value"]  # type: ignore[union-attr,index]
        )
        gains.append(metrics["win_rate"]["value"])
    assert 0.5 < gains[0] < gains[1]


def test_what_can_not_be_compared_is_refused_in_the_plan(project: Project) -> None:
    win = {"uses": "win_rate", "of": "score", "against": "before.evaluate.score"}

    def found(**options: Any) -> dict[str, str]:
        return errors(project, before__evaluate=EVALUATE, loop__w={**win, **options})

    assert "needs scores" in found(of="sample")["loop.w.of"]
    assert "compared with themselves" in found(against="score")["loop.w.against"]
    assert "nothing to compare with" in found(against=None)["loop.w.against"]
    assert "two things" in found(judged_against="before.evaluate.sample")["loop.w.against"]
    assert "same keys" in found(against="all.score")["loop.w.against"]
    assert "go together" in found(length_penalty=0.1)["loop.w.length_penalty"]
    judged = {"against": None, "judged_against": "before.evaluate.sample"}
    assert "mean_reward, reward_gain" in found(**judged)["loop.w.metrics"]
    assert "did you mean: win_rate" in found(metrics=["winrate"])["loop.w.metrics.0"]

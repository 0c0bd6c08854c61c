"""Metrics of episodes, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from itercli.records import Episode, Turn
from itercli.stages.base import StageError
from itercli.stages.episodes import EpisodeMetrics, repeats
from tests.environments.toy import task
from tests.stages.context import run


def episode(task_id: str, actions: str, score: float, index: int = 0, **fields: Any) -> Episode:
    turns = [Turn(text=a, action=a, observation="", score=score) for a in actions]
    given = {"seed": 0, "policy": "p@0", "opening": [], "finish": "done", "meta": {"environment": "one"}}
    return Episode(prompt_id=task_id, index=index, turns=turns, score=score, **given | fields)


def metrics(**options: Any) -> EpisodeMetrics:
    return EpisodeMetrics(**{"of": "play"} | options)


def test_values_are_means_over_tasks() -> None:
    drawn = [
        episode("a", "xyxy", 1.0), episode("a", "xxxx", 0.5, 1, finish="turns"), episode("b", "x", 0.0),
    ]  # fmt: skip
    made = run(
        metrics(metrics=["score", "success", "turns", "repeats@1", "repeats@2"]), of=drawn,
        prompts=[task("1", id="a", depth=2), task("1", id="b", depth=3)],
    )  # fmt: skip
    values = {name: m["value"] for name, m in made.metrics.items() if isinstance(m, dict)}
    assert values == {
        "score": 0.375, "success": 0.25, "turns": 2.5, "repeats@1": 1.25, "repeats@2": 0.75,
    }  # fmt: skip
    assert made.metrics["score"]["prompts"] == 2
    assert made.metrics["score"]["low"] == 0.0
    assert (made.metrics["ended done"], made.metrics["ended turns"]) == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    )


def test_success_is_a_matter_of_the_threshold() -> None:
    drawn = [episode("a", "x", 0.7), episode("b", "x", 0.4)]
    made = run(metrics(success_at=0.7, metrics=["success"]), of=drawn, prompts=[task("1", id="a")])
    assert made.metrics["success"]["value"] == 0.5


def test_groups_by_a_meta_key_and_metrics_by_environment() -> None:
    drawn = [
        episode("a", "x", 1.0), episode("b", "x", 0.0), episode("c", "x", 0.5, meta={"environment": "two"}),
    ]  # fmt: skip
    tasks = [task("1", id=i, depth=depth) for i, depth in (("a", 2), ("b", 2), ("c", 3))]
    made = run(metrics(by="depth", metrics=["score"]), of=drawn, prompts=tasks)
    groups = made.files["groups.json"]
    assert groups["by"] == "depth"
    assert {g: (v["prompts"], v["score"]["value"]) for g, v in groups["groups"].items()} == {
        "2": (2, 0.5), "3": (1, 0.5),
    }  # fmt: skip
    assert (made.metrics["score one"]["value"], made.metrics["score two"]["value"]) == (0.5, 0.5)
    assert "score one" not in run(metrics(metrics=["score"]), of=drawn[:2], prompts=tasks).metrics


def test_given_turns_are_not_the_policys() -> None:
    drawn = [episode("a", "xxxxy", 1.0, meta={"environment": "one", "given": 3})]
    made = run(metrics(metrics=["turns", "repeats@1"]), of=drawn, prompts=[])
    assert (made.metrics["turns"]["value"], made.metrics["repeats@1"]["value"]) == (2, 0)


def test_repeats_count_runs_that_were_there_before() -> None:
    assert [repeats("abab", n) for n in (1, 2, 3, 4, 5)] == [2, 1, 0, 0, 0]
    assert repeats("aaaa", 2) == 2
    assert repeats("", 1) == 0


def test_names_and_empty_rollouts_are_checked() -> None:
    ((key, what, allowed),) = metrics(metrics=["scores"]).check()
    assert (key, what) == ("metrics", "episodes have no metric 'scores'")
    assert "repeats@N" in allowed
    assert metrics(metrics=["repeats@0"]).check()
    assert metrics().check() == []
    assert [link.ref for link in metrics(of=["a", "b"]).links("m")] == ["a", "b"]
    with pytest.raises(StageError, match="play has no episodes"):
        run(metrics(), of=[], prompts=[])

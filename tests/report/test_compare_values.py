"""Values prompt by prompt, from whichever rows give the reported mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itercli.engine.runs import Run
from itercli.records import Episode, Message, Record, Score, Turn
from itercli.report.compare_values import NodeValues
from itercli.stages.divergence import Divergence
from tests.report.finished import finished, put

NODE = "iteration-01/measured"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return finished(tmp_path, "run", {1: {"a": [True], "b": [False]}})


def values(run: Run, fed: dict[str, list[Any]], own: list[Record] | None = None) -> NodeValues:
    """A stage that reads these rows, by kind and perhaps a number, and has rows of its own."""
    nodes = run.info["nodes"]
    asked = "iteration-01/evaluate.prompts"
    needs = [
        put(run, nodes, f"{NODE}.{kind}", kind.strip("0123456789"), 1, [asked], rows)
        for kind, rows in fed.items()
    ]
    put(run, nodes, NODE, "metrics", 1, [*needs, asked], own)
    run.save({**run.info, "nodes": nodes})
    return NodeValues(run, NODE)


def score(prompt: str, index: int, value: float, **meta: Any) -> Score:
    return Score(
        prompt_id=prompt,
        index=index,
        completion="",
        policy="policy@1",
        value=value,
        passed=value > 0,
        meta=meta,
    )


def test_scores_give_means_and_measures(run: Run) -> None:
    rows = [score("a", 0, 1, words=10), score("a", 1, 3, words=None), score("b", 0, -1, words=None)]
    found = values(run, {"scores": rows})
    mean = found.find("mean_score", {"value": 0.5, "prompts": 2})
    assert mean is not None
    assert mean.values == {"a": 2, "b": -1}
    words = found.find("words", {"value": 10, "prompts": 1, "missing": 1})
    assert words is not None
    assert words.values == {"a": 10, "b": None}
    assert found.find("mean_score", {"value": 0.5, "prompts": 3}) is None
    assert found.find("mean_score", 0.51) is None
    assert found.find("lines", 0.5) is None
    assert found.find("mean_score", {"value": None}) is None
    assert set(found.prompts) == {"a", "b"}


def test_of_several_temperatures_the_one_that_was_reported_counts(run: Run) -> None:
    cold, hot = ([score("a", 0, 1), score("b", 0, v)] for v in (1, 0))
    found = values(run, {"scores0": cold, "scores1": hot})
    for metric, mean, of_b in (("pass@1", 1.0, 1), ("pass@1 T=0.2", 1.0, 1), ("pass@1 T=0.8", 0.5, 0)):
        known = found.find(metric, {"value": mean, "prompts": 2})
        assert known is not None
        assert known.values == {"a": 1, "b": of_b}


def test_own_rows_give_the_mean_of_a_column(run: Run) -> None:
    own = [
        Divergence(prompt_id=p, index=i, policy="policy@1", tokens=1, kl=kl, kl_per_token=kl, k3=0.0)
        for p, i, kl in (("a", 0, 1.0), ("a", 1, 2.0), ("b", 0, 0.5))
    ]
    found = values(run, {}, own)
    kl = found.find("kl", {"value": 1.0, "prompts": 2})
    assert kl is not None
    assert kl.values == {"a": 1.5, "b": 0.5}
    assert found.find("policy", 1.0) is None
    assert found.find("nothing", 1.0) is None


def test_episodes_give_what_their_stage_measures(run: Run) -> None:
    def episode(task: str, actions: str, reached: float) -> Episode:
        turns = [Turn(text=a, action=a, observation="") for a in actions]
        opening = [Message(role="user", content="")]
        return Episode(
            prompt_id=task, index=0, seed=0, policy="policy@1", opening=opening, turns=turns, score=reached,
            finish="done",
        )  # fmt: skip

    found = values(run, {"episodes": [episode("a", "xx", 1.0), episode("b", "xyz", 0.5)]})
    for metric, mean, each in (("score", 0.75, (1, 0.5)), ("success", 0.5, (1, 0)), ("turns", 2.5, (2, 3))):
        known = found.find(metric, {"value": mean, "prompts": 2})
        assert known is not None
        assert known.values == dict(zip("ab", each, strict=True))
    assert found.find("ended done", 1.0) is None

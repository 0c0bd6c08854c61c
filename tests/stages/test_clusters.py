"""Clusters that intervals resample: what sources declare, what a recipe says, what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import check
from itercli.records import Message, Prompt, Score
from itercli.report.compare_paired import paired, sign_flip
from itercli.report.tables import cluster_notes
from itercli.stages.base import StageError
from itercli.stages.clusters import cluster_of
from itercli.stages.measure import Measure
from tests.stages.context import run


def planned(*overrides: str) -> Plan:
    composed = compose_recipe(overrides)
    return build_plan(check(composed.raw, base=Path.cwd()), provisional=True)


def test_the_source_s_declaration_reaches_every_stage_with_intervals() -> None:
    itertl = planned("recipe=itertl", "iterations=2").nodes
    assert itertl["iteration-02/evaluate_unseen"].stage.key_params()["cluster"] == ["template"]
    assert itertl["iteration-02/evaluate_unseen"].raw["cluster"] == ["template"]  # what the worker gets
    stories = planned("recipe=upo", "iterations=1").nodes
    assert stories["iteration-01/evaluate"].stage.key_params()["cluster"] is None
    agent_r = planned("recipe=agent_r", "iterations=1").nodes
    assert agent_r["iteration-01/recovery"].ingredients["options"]["cluster"] == ["of"]
    science = planned("recipe=agent_r", "data=scienceworld", "iterations=1").nodes
    assert science["iteration-01/recovery"].ingredients["options"]["cluster"] == ["task.task", "of"]


def test_a_recipe_may_say_otherwise() -> None:
    nodes = planned("recipe=itertl", "iterations=1", "loop.evaluate.cluster=family",
                    "loop.evaluate_unseen.cluster=null").nodes  # fmt: skip
    assert nodes["iteration-01/evaluate"].stage.key_params()["cluster"] == "family"
    assert nodes["iteration-01/evaluate_unseen"].stage.key_params()["cluster"] is None


def test_a_declared_cluster_of_own_data(tmp_path: Path) -> None:
    data = tmp_path / "own.jsonl"
    data.write_text('{"prompt": "a", "document": "d1"}\n{"prompt": "b", "document": "d1"}\n')
    source = f"{{name: jsonl, path: {data}, cluster: document}}"
    given = ("recipe=upo", "iterations=1", f"data.eval={source}")
    with_clusters, without = planned(*given), planned(*given[:-1], f"data.eval={{name: jsonl, path: {data}}}")
    node = "iteration-01/evaluate"
    assert with_clusters.nodes[node].ingredients["options"]["cluster"] == ["document"]
    assert with_clusters.nodes[node].key != without.nodes[node].key
    assert with_clusters.nodes[f"{node}.score"].key == without.nodes[f"{node}.score"].key  # not sampled anew


def rows(metas: list[dict[str, Any]]) -> tuple[list[Prompt], list[Score]]:
    prompts = [
        Prompt(id=f"p{n}", messages=[Message(role="user", content="x")], meta=meta)
        for n, meta in enumerate(metas)
    ]
    scores = [
        Score(prompt_id=p.id, index=0, completion="", policy="m@0", value=float(n < 6), passed=n < 6)
        for n, p in enumerate(prompts)
    ]
    return prompts, scores


def test_metrics_tell_the_number_of_clusters() -> None:
    prompts, scores = rows([{"task": {"goal": f"g{n // 3}"}} for n in range(12)])
    options: dict[str, Any] = {"of": "score", "metrics": ["pass@1"], "by": None}
    found = run(Measure(**options, cluster="task.goal"), of=scores, prompts=prompts).metrics["pass@1"]
    alone = run(Measure(**options, cluster=None), of=scores, prompts=prompts).metrics["pass@1"]
    assert (found["prompts"], found["clusters"], found["value"]) == (12, 4, 0.5)
    assert "clusters" not in alone
    assert found["high"] - found["low"] > alone["high"] - alone["low"]
    assert cluster_notes([("evaluate.pass@1", found), ("evaluate.pass@2", found), ("other.x", alone)]) == [
        "evaluate: 4 clusters of 12 prompts"
    ]


def test_a_group_that_is_one_cluster_has_an_interval_over_its_prompts() -> None:
    prompts, scores = rows([{"template": "a" if n < 8 else "b"} for n in range(12)])
    stage = Measure(of="score", metrics=("pass@1",), cluster="template")
    group = run(stage, of=scores, prompts=prompts).files["groups.json"]["groups"]["a"]["pass@1"]
    assert group["low"] < group["value"] < group["high"]
    assert group["clusters"] == 1


def test_a_field_that_no_prompt_has_is_an_error_with_those_there_are() -> None:
    prompts, scores = rows([{"template": "a"}] * 3)
    with pytest.raises(StageError, match=r"no prompt has a meta field 'tempalte'.*There are: template"):
        run(Measure(of="score", metrics=("pass@1",), cluster="tempalte"), of=scores, prompts=prompts)


def test_of_several_fields_the_first_that_a_prompt_has() -> None:
    assert cluster_of({"of": "p1", "task": {"goal": "g"}}, ("task.goal", "of")) == "task.goal=g"
    assert cluster_of({"of": "p1", "task": "t"}, ("task.goal", "of")) == "of=p1"
    assert cluster_of({}, ("of",)) is None


def test_pairs_of_a_cluster_are_flipped_together() -> None:
    ours = {f"p{n}": float(n < 9) for n in range(12)}
    theirs = dict.fromkeys(ours, 0.0)
    clusters = {p: str(n // 3) for n, p in enumerate(ours)}
    found, alone = paired(ours, theirs, clusters), paired(ours, theirs)
    assert (found.clusters, found.test, found.up) == (4, "sign_flip", 9)
    assert found.p == sign_flip([3, 3, 3, 0]) == 2 / 8
    assert (alone.clusters, alone.test) == (None, "mcnemar")
    assert alone.p < 0.01
    assert found.high - found.low > alone.high - alone.low

"""Measures as metrics: of `evaluate`, and of any score stage through `measure`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.records import Score
from itercli.stages.base import StageError
from itercli.stages.summary import collect, prompt_values
from tests.conftest import Project
from tests.recipe.test_plan import errors, toy

TOY = Path(__file__).parents[1] / "toy"
MEASURING = [str(TOY / "toy_plugin.py"), str(TOY / "measures_plugin.py")]


def measured(project: Project, metrics: str, check: bool = True) -> CompletedProcess[str]:
    """Run the toy recipe with a score stage that measures, and a stage that summarises it."""
    return project.run_toy(
        f"plugins={json.dumps(MEASURING)}", "iterations=1", "headline=null", "loop.evaluate=null",
        "loop.lengths={uses: score, of: sample, scorer: measuring}",
        f"loop.words={{uses: measure, of: lengths, metrics: {metrics}}}", check=check,
    )  # fmt: skip


def score(prompt: str, index: int, value: float = 0.0, passed: bool | None = None, **meta: Any) -> Score:
    return Score(
        prompt_id=prompt, index=index, completion="", policy="p@0", value=value, passed=passed, meta=meta
    )


def values(metric: str, *scores: Score) -> dict[str, float | None]:
    return prompt_values("here", metric, collect("here", [metric], scores).rows[metric])


def test_a_prompts_value_is_the_mean_of_what_is_not_missing() -> None:
    drawn = [score("a", 0, w=1), score("a", 1, w=4), score("b", 0, w=None), score("b", 1, w=3), score("c", 0)]
    assert values("w", *drawn) == {"a": 2.5, "b": 3.0, "c": None}
    assert values("w", score("a", 0, w=True), score("a", 1, w=False)) == {"a": 0.5}
    assert values("w", score("a", 0, w=math.inf), score("a", 1, w=math.nan)) == {"a": None}
    assert values("mean_score", score("a", 0, 0.5), score("a", 1, 1.0)) == {"a": 0.75}
    assert values("pass@1", score("a", 0, passed=True), score("a", 1, passed=False)) == {"a": 0.5}
    assert collect("here", ["w"], [score("a", 0, w=1, x=None, y="text", z=0.5)]).measures == {"w", "z"}


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(StageError, match="here: 'w' of prompt a is a str, not a number"):
        values("w", score("a", 0, w="long"))
    with pytest.raises(StageError, match="here: pass@1 needs a scorer that tells right from wrong"):
        values("pass@1", score("a", 0))
    with pytest.raises(StageError, match="here: prompt a: pass@2 needs at least 2"):
        values("pass@2", score("a", 0, passed=True))


def test_a_stage_is_summarised_without_sampling_anew(project: Project) -> None:
    out = measured(project, "[words, depth, undeclared, mean_score]").stdout
    run = all_runs(project.path / "runs")[0]
    assert [n for n in run.info["nodes"] if "words" in n] == ["iteration-01/words"]
    entry = run.entry("iteration-01/words")
    assert entry is not None
    assert entry.manifest is not None
    metrics = entry.manifest["metrics"]
    words = metrics["words"]
    scored = run.entry("iteration-01/lengths")
    assert scored is not None
    drawn: dict[str, list[int]] = {}
    for row in read_rows(scored.path / "rows.parquet", Score):
        drawn.setdefault(row.prompt_id, []).append(row.meta["words"])
    expected = sum(sum(d) / len(d) for d in drawn.values()) / len(drawn)
    assert words["value"] == pytest.approx(expected)
    assert words["low"] < words["value"] < words["high"]
    assert (words["prompts"], "missing" in words) == (8, False)
    # Prompts 0 and 1 have no depth; 2 has one of its two completions'.
    assert metrics["depth"]["value"] == pytest.approx(sum(range(2, 8)) / 6)
    assert (metrics["depth"]["prompts"], metrics["depth"]["missing"]) == (6, 2)
    groups = json.loads((entry.path / "groups.json").read_text())["groups"]
    assert groups["t1"]["prompts"] == 4
    assert groups["t1"]["depth"] | {"low": 0, "high": 0} == {
        "value": 5.0, "low": 0, "high": 0, "prompts": 3, "missing": 1,
    }  # fmt: skip
    # The closing table and `iter show` have the numbers in words, not in fractions of one.
    assert f"{words['value']:.1f} (" in out
    shown = project.iter("show", "--groups").stdout
    assert f"words {words['value']:.1f}" in shown
    assert "words.words by template" in shown


def test_a_name_that_no_row_has_is_reported_with_those_there_are(project: Project) -> None:
    done = measured(project, "[deepth]", check=False)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1
    assert "no row of lengths measures 'deepth'" in said
    assert "depth, even, undeclared, words" in said
    assert "Did you mean depth?" in said


def test_measure_takes_scores_of_one_iteration(project: Project) -> None:
    of = {"uses": "measure", "metrics": ["words"]}
    assert "needs scores" in errors(project, loop__m={**of, "of": "sample"})["loop.m.of"]
    assert "same keys" in errors(project, loop__m={**of, "of": "all.score"})["loop.m.of"]
    nodes = toy(project, loop__m={**of, "of": "score"}, headline="m.words").nodes
    assert nodes["iteration-02/m"].inputs["of"] == ["iteration-02/score"]
    assert nodes["iteration-02/m"].inputs["prompts"] == ["before/tasks"]
    assert (
        "did you mean: words" in errors(project, loop__m={**of, "of": "score"}, headline="m.wrds")["headline"]
    )

"""The ceiling of a benchmark: how many of its references pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.engine.runs import Run
from itercli.recipe.compose import compose_recipe
from itercli.recipe.plan import build_plan
from itercli.recipe.schema import check
from itercli.records import Score
from itercli.report.tables import ceilings
from itercli.stages.base import StageError
from itercli.stages.ceiling import Ceiling
from itercli.verifiers.verilog import Functional
from tests.stages.context import Context, run
from tests.verifiers.benches import RIGHT, WRONG, prompt
from tests.verifiers.test_verilog import trajectory

GOOD = prompt()
BAD = prompt(suite="verilogeval-v2", task="Prob099_x").model_copy(
    update={"reference": WRONG, "id": "own/bad"}
)
STAGE = Ceiling(prompts="tasks")


def score(of: str, completion: str) -> Score:
    task = {"own/add3": GOOD, "own/bad": BAD}[of]
    row = trajectory(completion).model_copy(update={"prompt_id": of})
    return Functional().open().score(task, row)


def found() -> Context:
    return run(STAGE, prompts=[GOOD, BAD], scores=[score("own/add3", RIGHT), score("own/bad", WRONG)])


def test_share_of_references_that_pass() -> None:
    ctx = found()
    assert ctx.metrics == {"pass@1": 0.5, "passing": 1, "references": 2}
    (failing,) = ctx.files["ceiling.json"]["failing"]
    assert (failing["prompt"], failing["outcome"]) == ("own/bad", "mismatch")
    assert failing["known"] == "a port of its reference is wrong"


def test_without_references_or_verdicts() -> None:
    with pytest.raises(StageError, match="no prompt has a reference"):
        run(STAGE, prompts=[GOOD], scores=[])
    open_one = score("own/add3", RIGHT).model_copy(update={"passed": None})
    with pytest.raises(StageError, match="`passed` is open, for example of own/add3"):
        run(STAGE, prompts=[GOOD], scores=[open_one])


def test_a_run_ends_with_the_sentence(tmp_path: Path) -> None:
    of = Run(tmp_path / "runs" / "x")
    of.path.mkdir(parents=True)
    of.save({"nodes": {"before/ceiling": {"kind": "metrics", "uses": "ceiling", "key": "k"}}})
    of.metric(node="before/ceiling", stage="ceiling", iteration=0, key="k", metrics=found().metrics)
    (line,) = ceilings(of)
    assert line == "ceiling: references that pass: 1 of 2; the maximum reachable pass@1 is 0.500"


@pytest.mark.parametrize("data", ["verilogeval", "rtllm"])
@pytest.mark.parametrize("recipe", ["itertl", "suite"])
def test_runs_on_benchmarks_have_one(data: str, recipe: str, tmp_path: Path) -> None:
    """`iter eval suite=...` and `iter run itertl data=...` judge the references of what they evaluate."""
    (tmp_path / "VerilogEval_Machine.jsonl").touch()
    (tmp_path / "VerilogDescription_Machine.jsonl").touch()
    design = tmp_path / "one"
    design.mkdir()
    (design / "design_description.txt").touch()
    (design / "testbench.v").touch()
    name = recipe if recipe == "itertl" else next(Path("recipes/suite").glob(f"{data}.yaml"))
    composed = compose_recipe([f"recipe={name}", f"data={data}", f"data.path={tmp_path}"])
    plan = build_plan(check(composed.raw, base=tmp_path, locate=composed.locate), provisional=True)
    (judged,) = plan.nodes["before/ceiling.score"].inputs["prompts"]
    scores = next(node for i, node in plan.nodes.items() if i.startswith("before/evaluate.score"))
    (asked,) = scores.inputs["prompts"]
    assert plan.nodes[judged].key == plan.nodes[asked].key

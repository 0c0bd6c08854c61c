"""`iter eval`: suites are what the recipes evaluate, and any model or version of a run can be the one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.handover.suites import compose_suite, target
from itercli.handover.versions import HandoverError
from itercli.models import ResolvedModel
from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import check
from itercli.recipe.tree import options
from tests.conftest import Project
from tests.handover.made import MadeRun

SUITE = """\
# @package _global_
name: toy_suite
iterations: 0
plugins: [PLUGIN]
roles: {policy: "${model}"}
sampler: {name: toy}
before:
  tasks: {uses: prompts, source: {name: toy}}
  evaluate: {uses: evaluate, role: policy, prompts: tasks, scorer: toy, n: 2, metrics: [pass@1]}
"""


def planned(*overrides: str) -> Plan:
    composed = compose_suite(overrides)
    return build_plan(check(composed.raw, base=Path.cwd(), locate=composed.locate), provisional=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    run = MadeRun(tmp_path_factory.mktemp("suites") / "runs")
    run.adapter(1)
    run.measured(1, 0.5)
    run.weights(2)
    run.measured(2, 0.4)
    return run


@pytest.fixture
def resolved(made: MadeRun) -> Callable[[str], ResolvedModel]:
    """The model that a suite evaluates for a target."""

    def call(text: str) -> ResolvedModel:
        return planned("suite=stories", target(made.run.root, text)[0]).roots["policy"]

    return call


@pytest.mark.parametrize(
    ("suite", "recipe", "stages"),
    [
        ("rtl_heldout", "itertl", ["evaluate", "evaluate_unseen"]),
        ("long_writing", "self_lengthen", ["evaluate"]),
        ("stories", "upo", ["evaluate"]),
        ("textcraft", "agent_r", ["rollout", "evaluate"]),
    ],
)
def test_suites_are_what_the_recipes_evaluate(suite: str, recipe: str, stages: list[str]) -> None:
    of_suite, of_recipe = compose_suite([f"suite={suite}"]).raw, compose_recipe([f"recipe={recipe}"]).raw
    assert list(of_suite["before"]) == stages
    for stage in stages:
        assert of_suite["before"][stage] == of_recipe["loop"][stage]
    assert of_suite["sampler"] == of_recipe["sampler"]


@pytest.mark.parametrize("suite", options("suite"))
def test_every_suite_plans(suite: str, tmp_path: Path) -> None:
    if suite == "lm_eval":
        pytest.importorskip("lm_eval")
    (tmp_path / "VerilogEval.jsonl").touch()
    more = {
        "lm_eval": ["tasks=[arc_easy]"],
        **{s: [f"data.path={tmp_path}"] for s in ("verilogeval", "rtllm")},
    }
    composed = compose_suite([f"suite={suite}", "model=tiny-rtl", *more.get(suite, [])])
    assert "evaluate" in check(composed.raw, base=Path.cwd()).stages["before"]


def test_bare_keys_are_options_of_the_evaluation() -> None:
    stage = planned("suite=stories", "model=tiny-rtl", "n=3", "seed=4").nodes["before/evaluate"].stage
    assert stage.n == 3  # type: ignore[attr-defined]
    with pytest.raises(RecipeError, match=r"before.evaluate.metrcs: unknown key[\s\S]*did you mean: metrics"):
        planned("suite=stories", "model=tiny-rtl", "metrcs=[words]")


def test_misspelt_names_are_reported_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean: stories"):
        compose_suite(["suite=storys"])
    with pytest.raises(LookupError, match=r"neither a run in .* nor a model\. Did you mean tiny-rtl"):
        target(tmp_path, "tiny-rlt")


def test_a_runs_version_is_its_files_in_the_store(
    made: MadeRun, resolved: Callable[[str], ResolvedModel]
) -> None:
    best, last = resolved("made"), resolved("made:last")
    assert (best.path, best.adapter is not None) == (made.base, True)
    assert resolved("made:1") == resolved("made:policy@1") == best
    assert (last.path is not None, last.adapter) == (True, None)
    assert last.path
    assert last.path.name == "weights"
    assert resolved("made:0").digest == made.info["roles"]["policy"]["digest"]
    with pytest.raises(HandoverError, match="no role 'judge'"):
        resolved("made:judge@1")


def test_an_exported_adapter_is_the_same_model(
    made: MadeRun, resolved: Callable[[str], ResolvedModel], tmp_path: Path
) -> None:
    to = tmp_path / "out"
    args = ["export", "made", "--runs", str(made.run.root), "--to", str(to), "--base", str(made.base)]
    assert main(args) == 0
    exported = resolved(str(to))
    assert exported.digest == resolved("made").digest
    assert exported.adapter == to
    config = json.loads((to / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "base"}))
    with pytest.raises(RecipeError, match=r"LoRA adapter on 'base'.*model=\{path: BASE, adapter: "):
        planned("suite=stories", f"model={to}")
    changed = config | {"lora_alpha": 99}
    (to / "adapter_config.json").write_text(json.dumps(changed))
    assert resolved(str(to)).digest != exported.digest


def test_an_evaluation_is_a_run(project: Project) -> None:
    plugin = Path(__file__).parents[1] / "toy" / "toy_plugin.py"
    (project.path / "toy_suite.yaml").write_text(SUITE.replace("PLUGIN", str(plugin)))
    args = ("eval", "./model", "suite=toy_suite.yaml", "n=3", "--json")
    done = project.iter(*args)
    result = json.loads(done.stdout)
    assert result["schema"] == "itercli.eval/1"
    assert set(result["metrics"]["evaluate.pass@1"]) == {"value", "low", "high", "prompts"}
    assert result["model"]["path"] == str(project.path / "model")
    assert "nothing to do" in project.iter(*args).stderr
    (listed,) = json.loads(project.iter("runs", "--json").stdout)["runs"]
    assert (listed["name"], listed["state"]) == (result["run"], "finished")

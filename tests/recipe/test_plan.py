"""Planning: references, roles and versions, artifact kinds, keys; all shipped YAML."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from itercli.models.known import TINY_RTL
from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import Recipe, check
from itercli.recipe.tree import options
from itercli.resources import Resources
from tests.conftest import Project


def toy(project: Project, **changes: Any) -> Plan:
    """Plan of the toy recipe; `changes` set dotted keys (None deletes)."""
    raw = yaml.safe_load((project.path / "toy.yaml").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = raw
        for p in parents:
            place = place.setdefault(p, {})
        if value is None:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    raw["model"] = raw["roles"]["policy"]
    return build_plan(check(raw, base=project.path))


def errors(project: Project, **changes: Any) -> dict[str, str]:
    with pytest.raises(RecipeError) as caught:
        toy(project, **changes)
    return {p.key: str(p) for p in caught.value.problems}


SAMPLE = {"uses": "sample", "role": "policy", "prompts": "tasks", "n": 2}
SCORE = {"uses": "score", "of": "sample", "scorer": "toy"}


def test_nodes_and_their_connections(project: Project) -> None:
    nodes = toy(project).nodes
    assert list(nodes)[:3] == ["before/tasks", "iteration-01/sample", "iteration-01/score"]
    assert nodes["iteration-02/score"].inputs == {"of": ["iteration-02/sample"], "prompts": ["before/tasks"]}
    assert nodes["iteration-01/evaluate"].inputs["scores"] == ["iteration-01/evaluate.score"]


def test_a_roles_version_advances_after_its_training(project: Project) -> None:
    nodes = toy(project).nodes
    assert nodes["iteration-01/sample"].models["policy"].label == "policy@0"
    assert nodes["iteration-01/evaluate.sample"].models["policy"].node == "iteration-01/train"
    assert nodes["iteration-02/sample"].models["policy"].label == "policy@1"
    assert nodes["iteration-02/train"].models["start"].node == "iteration-01/train"


def test_init_from_base_starts_from_the_start_model(project: Project) -> None:
    nodes = toy(project, loop__train__init_from="base").nodes
    assert nodes["iteration-02/train"].models["start"].node is None
    assert nodes["iteration-02/sample"].models["policy"].node == "iteration-01/train"


@pytest.mark.parametrize(("reference", "label"), [("initial", "policy@0"), ("previous", "policy@1")])
def test_reference_of_methods_that_have_one(project: Project, reference: str, label: str) -> None:
    nodes = toy(project, loop__train__method="toy_anchored", loop__train__reference=reference).nodes
    assert nodes["iteration-02/train"].models["reference"].label == label


def test_reference_is_checked_against_the_method(project: Project) -> None:
    assert "needs a reference" in errors(project, loop__train__method="toy_anchored")["loop.train.reference"]
    assert "uses no reference" in errors(project, loop__train__reference="initial")["loop.train.reference"]


def test_data_scope_all_takes_every_iteration_so_far(project: Project) -> None:
    nodes = toy(project, iterations=3, loop__train__data_scope="all").nodes
    assert nodes["iteration-03/train"].inputs["examples"] == [f"iteration-0{n}/build" for n in (1, 2, 3)]


def test_previous_is_the_last_iterations_or_comes_from_before(project: Project) -> None:
    changes = {"loop__score__of": "previous.sample", "before__sample": SAMPLE}
    nodes = toy(project, **changes).nodes
    assert nodes["iteration-01/score"].inputs["of"] == ["before/sample"]
    assert nodes["iteration-02/score"].inputs["of"] == ["iteration-01/sample"]


EVALUATE = {"uses": "evaluate", "role": "policy", "prompts": "tasks", "scorer": "toy", "n": 2}


def test_before_is_that_stage_in_every_iteration(project: Project) -> None:
    measure = {"uses": "measure", "of": "before.evaluate.score", "metrics": ["mean_score"]}
    again = {**SCORE, "of": "before.again"}  # of the loop stage's own name
    changes = {"before__evaluate": EVALUATE, "before__again": SAMPLE, "loop__again": again}
    nodes = toy(project, **changes, loop__start=measure, after={"start": measure}).nodes
    for node in ("iteration-01/start", "iteration-02/start", "after/start"):
        assert nodes[node].inputs["of"] == ["before/evaluate.score"]
        assert nodes[node].needs == ["before/evaluate.score", "before/tasks"]
    assert nodes["iteration-01/start"].seed != nodes["iteration-02/start"].seed
    assert nodes["iteration-02/again"].inputs["of"] == ["before/again"]


def test_before_explains_what_is_not_there(project: Project) -> None:
    late = {**SCORE, "of": "before.sample"}
    changes = {"before__evaluate": EVALUATE, "before__late": late, "before__sample": SAMPLE}
    found = errors(
        project, **changes, loop__score__of="before.evalute.sample", loop__evaluate__prompts="before.build"
    )
    assert "no such stage under `before:`" in found["loop.score.of"]
    assert "did you mean: evaluate.sample" in found["loop.score.of"]
    assert "no such stage under `before:`" in found["loop.evaluate.prompts"]
    assert "comes later" in found["before.late.of"]
    kinds = {"before__evaluate": EVALUATE, "loop__score__of": "before.evaluate.score"}
    assert (
        "needs trajectories, but 'before.evaluate.score' makes scores"
        in errors(project, **kinds)["loop.score.of"]
    )
    assert "reserved" in errors(project, loop__before=SCORE)["loop.before"]
    train = {"loop__train__data_scope": "all", "loop__train__examples": "before.build"}
    assert "exclude each other" in errors(project, **train)["loop.train.examples"]


def test_on_empty_reuse_has_last_iterations_examples_at_hand(project: Project) -> None:
    nodes = toy(project, loop__train__on_empty="reuse").nodes
    assert nodes["iteration-01/train"].inputs["fallback"] == []
    assert nodes["iteration-02/train"].inputs["fallback"] == ["iteration-01/build"]


def test_after_sees_the_last_iteration_and_all_of_them(project: Project) -> None:
    after = {
        "final": {
            "uses": "train",
            "role": "policy",
            "examples": "all.build",
            "method": "toy",
            "init_from": "base",
        },
        "check": {"uses": "evaluate", "role": "policy", "prompts": "tasks", "scorer": "toy"},
        "last": {"uses": "score", "of": "sample", "scorer": "toy"},
    }
    nodes = toy(project, after=after).nodes
    assert nodes["after/final"].inputs["examples"] == ["iteration-01/build", "iteration-02/build"]
    assert nodes["after/check.sample"].models["policy"].node == "after/final"
    assert nodes["after/last"].inputs["of"] == ["iteration-02/sample"]


def test_several_references_feed_one_slot_with_the_prompts_of_all(project: Project) -> None:
    limits = {"uses": "self_lengthen.limits", "of": ["all.sample", "all.drafts", "sample"], "role": "policy"}
    drafts = {**SAMPLE, "prompts": {"name": "toy", "note": "of its own"}}
    nodes = toy(project, loop__drafts=drafts, after={"limits": limits}).nodes
    iterations = ("iteration-01", "iteration-02")
    own = [f"{i}/drafts.prompts" for i in iterations]
    assert nodes["after/limits"].inputs == {
        "of": [f"{i}/{name}" for name in ("sample", "drafts") for i in iterations],
        "prompts": ["before/tasks", *own],
    }
    wrong = errors(project, after={"limits": {**limits, "of": ["all.sample", "all.smaple"]}})
    assert "did you mean: sample" in wrong["after.limits.of"]


def test_two_roles_have_versions_of_their_own(project: Project) -> None:
    raw = yaml.safe_load((project.path / "toy.yaml").read_text())
    roles = {"policy": raw["roles"]["policy"], "critic": raw["roles"]["policy"]}
    critic = {
        "uses": "train",
        "role": "critic",
        "examples": "build",
        "method": "toy",
        "init_from": "previous",
    }
    judge = {**SAMPLE, "role": "critic"}
    nodes = toy(project, roles=roles, loop__train_critic=critic, loop__judge=judge).nodes
    assert nodes["iteration-01/judge"].models["policy"].label == "critic@1"
    assert nodes["iteration-02/sample"].models["policy"].label == "policy@1"


def test_once_runs_in_the_first_iteration_only(project: Project) -> None:
    nodes = toy(project, loop__sample__once=True, loop__score__once=True).nodes
    assert "iteration-02/sample" not in nodes
    assert nodes["iteration-02/build"].inputs["of"] == ["iteration-01/score"]
    assert nodes["iteration-01/sample"].key == toy(project).nodes["iteration-01/sample"].key


def test_prompts_in_place_share_the_artifact(project: Project) -> None:
    nodes = toy(project, loop__sample__prompts={"name": "toy"}).nodes
    assert nodes["iteration-01/sample.prompts"].key == nodes["before/tasks"].key
    assert nodes["iteration-01/score"].inputs["prompts"] == ["iteration-01/sample.prompts"]


def test_wrong_references_are_explained(project: Project) -> None:
    found = errors(project, loop__score__of="smaple", loop__build__of="sample", loop__sample__prompts="build")
    assert "did you mean: sample" in found["loop.score.of"]
    assert "needs scores, but 'sample' makes trajectories" in found["loop.build.of"]
    assert "comes later" in found["loop.sample.prompts"]


def test_previous_outside_the_loop_is_an_error(project: Project) -> None:
    found = errors(project, before__score={**SCORE, "of": "previous.sample"})
    assert "has not begun" in found["before.score.of"]


def test_wrong_role_headline_and_stop(project: Project) -> None:
    assert "did you mean: policy" in errors(project, loop__sample__role="polcy")["loop.sample.role"]
    assert "did you mean: evaluate" in errors(project, headline="evalute.pass@1")["headline"]
    found = errors(project, stop={"stage": "evaluate", "metric": "pass@3", "patience": 1})
    assert "pass@1" in found["stop"]


def test_missing_model_is_named(project: Project) -> None:
    found = errors(project, roles={"policy": {"path": "./nowhere"}})
    assert "nowhere" in found["roles.policy.path"]


def test_greedy_copies_and_impossible_metrics_are_refused(project: Project) -> None:
    found = errors(project, loop__sample__temperature=0, loop__evaluate__metrics=["pass@5", "acc"])
    assert "equal completions" in found["loop.sample.n"]
    assert "loop.evaluate.metrics" in found


def test_keys_depend_on_what_matters_and_only_on_that(project: Project) -> None:
    base = {i: n.key for i, n in toy(project).nodes.items()}
    assert base == {i: n.key for i, n in toy(project).nodes.items()}
    lr = {i: n.key for i, n in toy(project, training__lr=0.5).nodes.items()}
    assert next(i for i in base if base[i] != lr[i]) == "iteration-01/train"
    renamed = {i: n.key for i, n in toy(project, description="other", executor={"retries": 3}).nodes.items()}
    assert renamed == base
    seed = {i: n.key for i, n in toy(project, seed=5).nodes.items()}
    assert seed["before/tasks"] == base["before/tasks"]
    assert seed["iteration-01/sample"] != base["iteration-01/sample"]
    (project.path / "model" / "model.safetensors").write_bytes(b"other weights")
    model = {i: n.key for i, n in toy(project).nodes.items()}
    assert model["iteration-01/sample"] != base["iteration-01/sample"]


def test_plugin_code_is_part_of_the_key(project: Project, tmp_path: Path) -> None:
    base = toy(project).nodes["iteration-01/score"].key
    raw = yaml.safe_load((project.path / "toy.yaml").read_text())
    own = tmp_path / "own_scorer.py"
    source = (
        "from itercli.registry import register\n"
        "from itercli.verifiers.base import Scorer\n\n"
        "@register('scorer', 'own')\nclass Own(Scorer):\n    def fingerprint(self):\n        return {}\n"
        "    def open(self):\n        raise NotImplementedError\n"
    )
    keys = []
    for text in (source, source + "# edited\n"):
        own.write_text(text)
        nodes = toy(project, plugins=[*raw["plugins"], str(own)], loop__score__scorer="own").nodes
        keys.append(nodes["iteration-01/score"].key)
    assert len({base, *keys}) == 3


@pytest.mark.parametrize("name", sorted(options("recipe")))
def test_every_shipped_recipe_composes_validates_and_plans(name: str) -> None:
    composed = compose_recipe([f"recipe={name}"])
    # Provisional: models that the first run fetches are not on every machine.
    plan = build_plan(check(composed.raw, base=Path.cwd(), locate=composed.locate), provisional=True)
    assert plan.nodes
    assert composed.raw["description"]


@pytest.mark.parametrize("name", ["itertl", "upo", "agent_r"])
def test_no_auto_that_changes_results_is_left_in_a_key(name: str) -> None:
    recipe = composed(name)
    cpu, gpu = (
        build_plan(recipe, provisional=True, resources=resources)
        for resources in (Resources(), Resources(cuda="/dev/nvidia0", gpu_bfloat16=True))
    )
    for plan in (cpu, gpu):
        assert {
            i for i, node in plan.nodes.items() if "auto" in _leaves(node.ingredients["options"])
        } == set()
    given = {i for i, n in cpu.nodes.items() if "bfloat16" in _leaves(n.ingredients["options"])}
    computing = {i for i, n in cpu.nodes.items() if n.stage.WORKER != "score" and i not in given}
    assert "iteration-01/train" in computing
    assert all(cpu.nodes[i].key != gpu.nodes[i].key for i in computing)
    assert cpu.nodes["iteration-01/train"].ingredients["options"]["training"]["dtype"] == "float32"
    assert gpu.nodes["iteration-01/train"].ingredients["options"]["training"]["dtype"] == "bfloat16"


def test_auto_and_what_it_stands_for_have_one_key() -> None:
    given = ["sampler={name: transformers, dtype: float32, adapter: merge}", "+training.dtype=float32"]
    plans = [
        build_plan(composed("itertl", *more), provisional=True, resources=Resources()) for more in ([], given)
    ]
    assert {i: n.key for i, n in plans[0].nodes.items()} == {i: n.key for i, n in plans[1].nodes.items()}


def composed(name: str, *overrides: str) -> Recipe:
    return check(compose_recipe([f"recipe={name}", *overrides]).raw, base=Path.cwd())


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for v in value for leaf in _leaves(v)] if isinstance(value, list | tuple) else [value]


def test_a_model_that_is_not_here_yet_can_be_planned(project: Project) -> None:
    raw = yaml.safe_load((project.path / "toy.yaml").read_text())
    raw["model"] = raw["roles"]["policy"] = {"path": "org/not-here"}
    recipe = check(raw, base=project.path)
    with pytest.raises(RecipeError, match="iter models pull org/not-here"):
        build_plan(recipe)
    plan = build_plan(recipe, provisional=True)
    assert plan.roots["policy"].source == "absent"
    assert "org/not-here is not here yet" in plan.notes[0]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (g, n)
        for g in ("model", "data", "sampler", "trainer", "tracker", "executor")
        for n in sorted(options(g))
    ],
)
def test_every_shipped_option_composes_and_validates(group: str, name: str, tmp_path: Path) -> None:
    needs = {
        ("model", "custom"): ["model.path=tiny-rtl"],
        ("data", "verilogeval"): [f"data.path={tmp_path}"],
        ("data", "rtllm"): [f"data.path={tmp_path}"],
        ("data", "rtlcoder"): [f"data.path={tmp_path}"],
        ("sampler", "openai"): ["sampler.base_url=http://127.0.0.1:1/v1", "sampler.model=x"],
        ("data", "longgen"): [f"data.path={tmp_path}"],
        ("data", "longbench_write"): [f"data.path={tmp_path}"],
        ("data", "prompts"): ["data.prompts=p.jsonl", "data.heldout=h.jsonl"],
        ("data", "preferences"): ["data.path=l.jsonl", "data.prompts=p.jsonl", "data.heldout=h.jsonl"],
    }
    recipe = "itertl"
    if group == "data" and name in (
        "self_lengthen",
        "self_lengthen_long",
        "longgen",
        "longbench_write",
    ):  # seeds, not tasks
        recipe = str(tmp_path / "own.yaml")
        Path(recipe).write_text(
            "# @package _global_\nname: own\nroles: {policy: {path: tiny-rtl}}\nbefore:\n"
            '  seeds: {uses: prompts, source: "${data.seeds}"}\n'
            '  eval: {uses: prompts, source: "${data.eval}"}\n'
        )
    if group == "data":
        recipe = {
            "stories": "online_dpo", "prompts": "spin", "preferences": "spin",
            "agent_r": "agent_r", "agent_r_webshop": "agent_r", "scienceworld": "agent_r",
            "textcraft": "agent_r", "textcraft_small": "agent_r",
        }.get(name, recipe)  # fmt: skip
    composed = compose_recipe([f"recipe={recipe}", f"{group}={name}", *needs.get((group, name), [])])
    check(composed.raw, base=Path.cwd(), locate=composed.locate)


def test_light_floor_imports_nothing_heavy() -> None:
    """Composing, validating, planning and every command module stay on the light floor."""
    code = """
import importlib, pkgutil, sys
from pathlib import Path
import itercli.cli, itercli.engine, itercli.recipe, itercli.worker, itercli.records, itercli.report
import itercli.handover, itercli.sweep, itercli.tracking, itercli.tune
packages = (itercli.cli, itercli.engine, itercli.recipe, itercli.report, itercli.tracking, itercli.tune)
packages += (itercli.handover, itercli.sweep)
for package in packages:
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from itercli.cli.main import main
assert main(["plan", "recipe=itertl"]) == 0
assert main(["validate", "itertl"]) == 0
heavy = {"torch", "transformers", "vllm", "trl", "datasets", "wandb", "peft", "accelerate", "optuna"}
heavy |= {"tensorboard", "trackio", "mlflow"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_stage_names_are_folder_names_and_key_parts(project: Project) -> None:
    for name in ("../x", "a.b", "a/b"):
        found = errors(project, **{f"loop__{name}": SCORE})
        assert "not a stage name" in found["loop"]


def test_score_takes_the_rows_of_one_iteration(project: Project) -> None:
    found = errors(project, loop__score={**SCORE, "of": "all.sample"})
    assert "one `sample` stage" in found["loop.score.of"]


def test_stage_that_ends_the_loop_must_run_in_every_iteration(project: Project) -> None:
    raw = yaml.safe_load((project.path / "toy.yaml").read_text())["loop"]["evaluate"]
    found = errors(
        project, loop__evaluate={**raw, "once": True}, stop={"stage": "evaluate", "metric": "pass@1"}
    )
    assert "first iteration only" in found["stop"]


def test_a_dated_template_has_its_date_in_the_keys_that_use_it_and_the_plan_says_so(
    project: Project, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(TINY_RTL, tmp_path / "own"))
    role = {"path": str(folder)}
    other = role | {"template_date": "2025-01-31"}
    assert [n.key for n in toy(project, roles__policy=role).nodes.values()] == [
        n.key for n in toy(project, roles__policy=other).nodes.values()
    ]
    with (folder / "chat_template.jinja").open("a") as file:
        file.write("{{ strftime_now('%d %b %Y') }}")
    plans = [toy(project, roles__policy=r) for r in (role, other)]
    for node in ("iteration-01/sample", "iteration-02/train"):
        assert plans[0].nodes[node].key != plans[1].nodes[node].key
    assert plans[0].nodes["before/tasks"].key == plans[1].nodes["before/tasks"].key
    assert any("always 2025-01-31" in note for note in plans[1].notes)


def test_code_of_a_model_that_will_be_run_is_named_and_planning_runs_none(
    project: Project, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(TINY_RTL, tmp_path / "own"))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    role = {"path": str(folder), "trust_remote_code": True}
    trusted = toy(project, roles__policy=role)
    assert any("mine.py" in note and "without a sandbox" in note for note in trusted.notes)
    assert not any("mine.py" in note for note in toy(project, roles__policy={"path": str(folder)}).notes)
    (folder / "mine.py").write_text("pass")
    assert toy(project, roles__policy=role).name != trusted.name, "the code is in the key"
    assert not (tmp_path / "ran").exists()

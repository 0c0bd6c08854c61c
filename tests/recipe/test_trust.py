"""What a stranger's recipe may not have: code that runs, secrets, addresses that keys are sent to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from itercli.cli.main import main
from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import RecipeError
from itercli.recipe.trust import check_composed, refusals
from itercli.recipe.variables import refused_key, refused_value

PLUGIN = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from itercli.data.base import Source
from itercli.records import Message, Prompt
from itercli.registry import register

@register("source", "{name}")
class Tasks(Source):
    def prompts(self):
        return iter([Prompt(id="p", messages=[Message(role="user", content="hello")])])
    def fingerprint(self):
        return {{}}
"""
RECIPE = """
# @package _global_
name: stranger
plugins: [{plugin}]
roles: {{policy: {{served: fake}}}}
sampler: {{name: openai}}
before:
  tasks: {{uses: prompts, source: {{name: {source}}}}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands are typed in; `elsewhere` is beside it."""
    folder = tmp_path / "project"
    (tmp_path / "elsewhere").mkdir()
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def put(folder: Path, plugin: str = "", source: str = "") -> tuple[Path, Path]:
    """A recipe and its plug-in in a folder; the plug-in leaves a file `ran` when it is imported."""
    source = source or f"own_{folder.name}_{abs(hash(folder)) % 10**8}"
    code = folder / "plug.py"
    code.write_text(PLUGIN.format(name=source))
    recipe = folder / "stranger.yaml"
    recipe.write_text(RECIPE.format(plugin=plugin or code, source=source))
    return recipe, folder / "ran"


def test_a_plug_in_of_the_project_loads(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, ran = put(project, plugin="plug.py")
    assert main(["validate", f"recipe={recipe}"]) == 0
    assert ran.exists()
    assert capsys.readouterr().out.startswith("ok ")


@pytest.mark.parametrize("command", ["plan", "run", "tune"])
def test_a_plug_in_from_elsewhere_is_refused_and_does_not_run(
    project: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    recipe, ran = put(project.parent / "elsewhere")
    assert main([command, f"recipe={recipe}"]) == 2
    assert not ran.exists()
    error = capsys.readouterr().err
    assert "plugins.0: not loaded" in error
    assert f"{recipe}:4" in error
    assert "--trust" in error
    assert "unknown source" not in error  # a follow-up: the name is the plug-in's
    assert not (project / "runs").exists()


def test_trust_loads_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, ran = put(project.parent / "elsewhere")
    assert main(["plan", f"recipe={recipe}", "--trust"]) == 0
    assert ran.exists()


def test_validate_says_what_it_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, ran = put(project.parent / "elsewhere")
    assert main(["validate", f"recipe={recipe}"]) == 0
    out = capsys.readouterr().out
    assert "ok " not in out
    assert "not loaded" in out
    assert "not checked" in out
    assert "--trust" in out
    assert main(["validate", f"recipe={recipe}", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["valid"]
    assert entry == {"recipe": "stranger", "stages": None, "not_loaded": [str(recipe.with_name("plug.py"))]}
    assert not ran.exists()
    # What is wrong without it is still said.
    assert main(["validate", f"recipe={recipe}", "seed=-1"]) == 2
    assert "seed" in capsys.readouterr().err
    assert not ran.exists()


def test_what_is_of_the_project_on_either_side_loads(project: Path) -> None:
    # The user's own recipe may name any file, and anybody's recipe a file of the user's.
    elsewhere = project.parent / "elsewhere"
    (project / "sub").mkdir()
    for code, recipe in ((elsewhere, project), (project / "sub", elsewhere)):
        _, ran = put(code)
        named = put(
            recipe, plugin=str(code / "plug.py"), source=f"own_{code.name}_{abs(hash(code)) % 10**8}"
        )[0]
        check_composed(compose_recipe([f"recipe={named}"]))
        assert ran.exists()


@pytest.mark.parametrize("way", ["../elsewhere/plug.py", "link.py"])
def test_paths_and_links_that_lead_out_are_outside(project: Path, way: str) -> None:
    recipe, ran = put(project.parent / "elsewhere", plugin=way)
    (project / "link.py").symlink_to(project.parent / "elsewhere" / "plug.py")
    with pytest.raises(RecipeError, match="not loaded"):
        check_composed(compose_recipe([f"recipe={recipe}"]))
    (project / "mine.yaml").symlink_to(recipe)
    with pytest.raises(RecipeError, match="not loaded"):
        check_composed(compose_recipe(["recipe=mine.yaml"]))
    assert not ran.exists()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("roles: {policy: {path: org/model, trust_remote_code: true}}", "roles.policy.trust_remote_code"),
        ("executor: {python: {sample: ./python}}", "executor.python.sample"),
        ("after: {harness: {uses: lm_eval, include_path: tasks}}", "after.harness.include_path"),
    ],
)
def test_other_ways_to_have_code_run_need_trust_too(project: Path, line: str, key: str) -> None:
    text = RECIPE.format(plugin="", source="rtl_tasks").replace("roles: {policy: {served: fake}}", "")
    for folder in (project, project.parent / "elsewhere"):
        (folder / "r.yaml").write_text(f"{text}{line}\n")
        found = refusals(compose_recipe([f"recipe={folder / 'r.yaml'}"]), project)
        assert [p.key for p in found] == ([] if folder == project else [key])


def test_folders_of_recipes_from_elsewhere_count_too(project: Path) -> None:
    folder = project.parent / "elsewhere"
    recipe, ran = put(folder)
    (folder / "recipe").mkdir()
    os.rename(recipe, folder / "recipe" / "stranger.yaml")
    child = "# @package _global_\ndefaults: [stranger, _self_]\nname: child\n"
    (folder / "recipe" / "child.yaml").write_text(child)
    for name in ("stranger", "child"):
        with pytest.raises(RecipeError, match="not loaded"):
            check_composed(compose_recipe([f"recipe={name}"], [folder]))
    assert not ran.exists()
    check_composed(compose_recipe(["recipe=child"], [folder]), trust=True)
    assert ran.exists()


def test_a_foreign_runs_folder_runs_nothing_on_resume_and_sync(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project.parent / "elsewhere"
    recipe, ran = put(folder)
    run = folder / "runs" / "given"
    run.mkdir(parents=True)
    composed = compose_recipe([f"recipe={recipe}"])
    (run / "config.yaml").write_text(json.dumps({**composed.raw, "tracker": {"own": {}}}))
    (run / "run.json").write_text(
        json.dumps({"format": 1, "folder": str(folder), "state": "failed", "nodes": {}})
    )
    assert main(["sync", str(run)]) == 2
    assert "--trust" in capsys.readouterr().err
    assert main(["resume", str(run)]) == 2
    assert "--trust" in capsys.readouterr().err
    assert not ran.exists()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("sampler: {name: openai, base_url: 'https://collect.example/v1'}", "sampler.base_url"),
        ("tracker: {mlflow: {uri: 'https://collect.example'}}", "tracker.mlflow.uri"),
    ],
)
def test_a_recipe_from_elsewhere_names_no_machine_that_keys_go_to(project: Path, line: str, key: str) -> None:
    text = RECIPE.format(plugin="", source="rtl_tasks").replace("sampler: {name: openai}", "")
    recipe = {folder: folder / "r.yaml" for folder in (project, project.parent / "elsewhere")}
    for path in recipe.values():
        path.write_text(f"{text}{line}\n")
    stranger = f"recipe={recipe[project.parent / 'elsewhere']}"

    def refused(*overrides: str) -> bool:
        found = refusals(compose_recipe(overrides), project)
        return key in [p.key for p in found if "would be sent" in p.what]

    assert refused(stranger)
    assert not refused(f"recipe={recipe[project]}")
    assert not refused(stranger, f"{key}=https://mine.example")  # what the user types is the user's
    assert not refused(stranger, f"{key}=http://127.0.0.1:8000/v1")


SECRETS = ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "ITER_JUDGE_KEY"]
READS = ["x ${oc.env:%s}", "${oc.env:%s,none}", "${oc.decode:'${oc.env:%s}'}", "${oc.env:${oc.decode:%s}}"]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("text", READS)
def test_no_secret_is_a_value_of_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, "the-secret")
    monkeypatch.setenv("ITER_RECIPE_ENV", ",".join(SECRETS))  # even if the user lists it
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f'# @package _global_\nname: x\ndescription: "{text % name}"\n')
    with pytest.raises(RecipeError) as caught:
        compose_recipe([f"recipe={recipe}"])
    (problem,) = caught.value.problems
    assert problem.key == "description"
    assert name in problem.what
    assert problem.where.endswith("r.yaml:3")
    assert "the-secret" not in str(problem)


def test_variables_that_are_listed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "r.yaml"

    def value(text: str) -> object:
        recipe.write_text(f'# @package _global_\nname: x\ndescription: "{text}"\n')
        return compose_recipe([f"recipe={recipe}"]).raw["description"]

    monkeypatch.setenv("ITER_DATA", "/data")
    monkeypatch.setenv("CLUSTER", "here")
    assert value("${oc.env:ITER_DATA}/x") == "/data/x"
    assert value("${oc.env:ITER_NOT_SET,default}") == "default"
    with pytest.raises(RecipeError, match="ITER_NOT_SET is not set"):
        value("${oc.env:ITER_NOT_SET}")
    with pytest.raises(RecipeError, match="export ITER_RECIPE_ENV=CLUSTER"):
        value("${oc.env:CLUSTER}")
    monkeypatch.setenv("ITER_RECIPE_ENV", "OTHER, CLUSTER")
    assert value("${oc.env:CLUSTER}") == "here"


def test_a_recipe_cannot_extend_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ITER_RECIPE_ENV", raising=False)
    for name in ("HF_TOKEN", "WANDB_API_KEY", "PATH", "", "OPENAI_API_KEY,HF_TOKEN"):
        assert refused_key(name)
        assert refused_value(name)
    for name in ("OPENAI_API_KEY", "ITER_JUDGE_KEY"):
        assert not refused_key(name)
        assert refused_value(name)
    monkeypatch.setenv("ITER_RECIPE_ENV", "TOGETHER_API_KEY")
    assert not refused_key("TOGETHER_API_KEY")


def test_keys_of_others_are_sent_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ITER_RECIPE_ENV", raising=False)
    with pytest.raises(RecipeError) as caught:
        check_composed(compose_recipe(["recipe=itertl", "sampler={name: openai, api_key_env: HF_TOKEN}"]))
    assert "sampler.api_key_env" in {p.key for p in caught.value.problems}

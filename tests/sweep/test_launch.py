"""Launchers and their options, checked before anything is planned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from itercli.recipe.errors import Problem, RecipeError
from itercli.sweep import launch
from itercli.sweep.launch import find_launcher, split


def problem(*overrides: str) -> Problem:
    with pytest.raises(RecipeError) as error:
        find_launcher(overrides)
    (found,) = error.value.problems
    return found


def test_overrides_of_hydra_are_not_the_recipes() -> None:
    line = ["recipe=itertl", "hydra/launcher=joblib", "seed=1,2", "hydra.launcher.n_jobs=2"]
    assert split(line) == (
        ["recipe=itertl", "seed=1,2"],
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    )


def test_launchers_are_found() -> None:
    basic = find_launcher([])
    assert (basic.name, basic.here, basic.at_once) == ("basic", True, False)
    joblib = find_launcher(["hydra/launcher=joblib"])
    assert (joblib.here, joblib.at_once) == (True, True)
    assert joblib.overrides[-1].startswith("hydra.launcher.n_jobs=")  # not one for each core
    given = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"]
    assert find_launcher(given).overrides == given
    slurm = find_launcher(["hydra/launcher=slurm", "hydra.launcher.partition=gpu"])
    assert (slurm.here, slurm.at_once) == (False, True)


def test_a_preset_of_the_user_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "hydra" / "launcher"
    folder.mkdir(parents=True)
    page = Path(__file__).parents[2] / "docs" / "sweeps.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    (folder / "mine.yaml").write_text(text)
    mine = find_launcher(["hydra/launcher=mine", "hydra.launcher.qos=low"], [tmp_path])
    assert (mine.here, mine.at_once) == (False, True)


def test_mistakes_are_named() -> None:
    assert problem("hydra/launcher=jobli").nearest == "joblib"
    assert problem("hydra/launcher=slurm", "hydra.launcher.particion=gpu").nearest == "partition"
    assert "Integer" in problem("hydra/launcher=joblib", "hydra.launcher.n_jobs=many").what
    assert "hydra.launcher.OPTION" in problem("hydra.sweep.dir=x").allowed


def test_a_launcher_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_installed", lambda module: False)
    error = launch.MissingConfigException("", missing_cfg_file="hydra/launcher/submitit_slurm")
    found = launch._explain(error, [], "slurm", ["basic"])
    assert found.allowed == "pip install 'itercli[sweep]'"

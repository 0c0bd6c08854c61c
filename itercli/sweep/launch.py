"""Hydra's launchers start the points: one after the other, with joblib, or with submitit.

Hydra's multirun is given nothing but the names of the points' runs to sweep over; what a point is
was settled before, so every launcher that Hydra has can start them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from itercli.engine.devices import gpu_count
from itercli.recipe.compose import search_path
from itercli.recipe.errors import Problem, RecipeError, nearest
from itercli.recipe.tree import user_dirs
from itercli.sweep.job import Job

NEEDS = {"joblib": "hydra_plugins.hydra_joblib_launcher", "submitit": "hydra_plugins.hydra_submitit_launcher"}
QUIET = ["hydra/hydra_logging=none", "hydra/job_logging=none", "hydra.output_subdir=null"]


@dataclass(frozen=True)
class Launcher:
    """A launcher that was found and whose options are right.

    Attributes:
        name: Option of `hydra/launcher`.
        overrides: What chooses and configures it.
        here: Whether the points are processes of this machine that end with the sweep.
        at_once: Whether it may run several points at the same time.
    """

    name: str
    overrides: list[str]
    here: bool
    at_once: bool


def split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of the recipe, and those of Hydra itself."""
    hydra = [o for o in overrides if o.lstrip("+~").startswith(("hydra.", "hydra/"))]
    return [o for o in overrides if o not in hydra], hydra


def find_launcher(overrides: Sequence[str], recipes: Sequence[str | Path] = ()) -> Launcher:
    """Compose the launcher's options.

    Args:
        overrides: `hydra/launcher=NAME` and `hydra.launcher.OPTION=VALUE`.

    Raises:
        RecipeError: Unknown or missing launcher, unknown option, wrong value.
    """
    for o in overrides:
        if not o.startswith(("hydra/launcher=", "hydra.launcher.", "+hydra.launcher.", "++hydra.launcher.")):
            allowed = "hydra/launcher=NAME and hydra.launcher.OPTION=VALUE"
            key, where = o.partition("=")[0], f"command line: {o}"
            raise RecipeError([Problem(key, "can't be set for a sweep", "", allowed, "", where)])
    given = list(overrides)
    with search_path(user_dirs(recipes)) as options:
        name = next(
            (o.partition("=")[2] for o in reversed(given) if o.startswith("hydra/launcher=")), "basic"
        )
        known = options("hydra/launcher")
        try:
            config = compose(None, overrides=[*QUIET, *given], return_hydra_config=True).hydra.launcher
            target = str(config._target_)
            if target.endswith(".JoblibLauncher") and config.n_jobs == -1:
                # As many as there are cores is right for what needs one; a run needs more, and memory.
                given.append(f"hydra.launcher.n_jobs={max(gpu_count(), 2)}")
        except (HydraException, OmegaConfBaseException) as error:
            raise RecipeError([_explain(error, given, name, known)]) from error
    here = target.endswith((".BasicLauncher", ".JoblibLauncher"))
    return Launcher(name, given, here, at_once=not target.endswith(".BasicLauncher"))


def launch(launcher: Launcher, job: Job, runs: Sequence[str], recipes: Sequence[str | Path] = ()) -> None:
    """Start the points and wait for their ends.

    Args:
        runs: Names of the points' runs.

    Raises:
        Exception: Whatever a launcher raises when a process of its own dies.
    """
    points = ",".join(f"'{run}'" for run in runs)
    overrides = [f"+point={points}", *QUIET, f"hydra.job.name='{job.attempt.parent.name}'"]
    overrides += [f"hydra.sweep.dir='{job.attempt}'", "hydra.sweep.subdir=.", *launcher.overrides]
    with search_path(user_dirs(recipes)):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.multirun(None, job, overrides, with_log_configuration=False)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _explain(error: Exception, given: Sequence[str], name: str, known: Sequence[str]) -> Problem:
    if isinstance(error, MissingConfigException):
        where = f"command line: hydra/launcher={name}"
        missing = (error.missing_cfg_file or "").rpartition("/")[2]  # perhaps what a preset builds on
        for begin, module in NEEDS.items():
            if missing.startswith(begin) and not _installed(module):
                what, fix = f"{missing} is not installed", "pip install 'itercli[sweep]'"
                return Problem("hydra/launcher", what, "", fix, "", where)
        return Problem(
            "hydra/launcher", "no such launcher", name, ", ".join(known), nearest(name, known), where
        )
    culprit = next((o for o in given if o.partition("=")[0].lstrip("+") in str(error)), "")
    key = culprit.partition("=")[0]
    text = str(error.__cause__ or error).splitlines()[0]
    if " not in " not in text:
        return Problem(key, text, where=f"command line: {culprit}")
    with_defaults = compose(
        None, overrides=[o for o in given if o.startswith("hydra/")], return_hydra_config=True
    )
    options = [k for k in map(str, with_defaults.hydra.launcher) if not k.startswith("_")]
    near = nearest(key.rpartition(".")[2], options)
    what = f"no such option of the launcher {name}"
    return Problem(key, what, "", ", ".join(options), near, f"command line: {culprit}")

"""From a command line with several values to runs, each composed, checked and planned.

The syntax is Hydra's: `training.lr=1e-5,2e-5`, `choice(...)`, `range(...)`, and `glob(...)` over the
options of a config group. Every combination is a point; points that compute the same are one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from itercli.recipe.compose import compose_recipe, search_path
from itercli.recipe.errors import Problem, RecipeError
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.tree import user_dirs
from itercli.recipe.trust import check_composed
from itercli.sweep.record import SweepPoint


@dataclass(frozen=True)
class Planned:
    """A point and what it would do."""

    point: SweepPoint
    plan: Plan


def plan_points(
    overrides: Sequence[str],
    recipes: Sequence[str | Path] = (),
    *,
    download: bool = False,
    provisional: bool = False,
    trust: bool = False,
) -> list[Planned]:
    """Compose, check and plan all points of a line; points that are the same run are there once.

    Args:
        overrides: The recipe's, without those of Hydra's launcher.
        download: Fetch start models that aren't here yet.
        provisional: Plan without them, see `build_plan`.
        trust: See `itercli.recipe.trust`.

    Raises:
        RecipeError: All that is wrong in any of the points, in one report.
    """
    expanded = expand(overrides, recipes)
    found: dict[str, Planned] = {}
    wrong: list[tuple[SweepPoint, RecipeError]] = []
    for point in expanded:
        try:
            composed = compose_recipe(point.overrides, recipes)
            recipe = check_composed(composed, trust=trust)
            plan = build_plan(recipe, download=download, provisional=provisional)
        except RecipeError as error:
            wrong.append((point, error))
        else:
            found.setdefault(plan.name, Planned(replace(point, run=plan.name), plan))
    if wrong:
        raise _together(wrong, len(expanded))
    return list(found.values())


def expand(overrides: Sequence[str], recipes: Sequence[str | Path] = ()) -> list[SweepPoint]:
    """Every combination of the line's values, the last key varying fastest; `run` is still empty.

    Raises:
        RecipeError: A range without steps, or a `glob` that fits nothing.
    """
    problems: list[Problem] = []
    choices: list[list[tuple[str, str | None, str]]] = []  # per override: key, value if swept, override
    with search_path(user_dirs(recipes)):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for text in overrides:
            try:
                (override,) = parser.parse_overrides([text])  # unlike `parse_override` it lets glob() look
            except HydraException:  # reported with the recipe, where the place is known
                choices.append([("", None, text)])
                continue
            if not override.is_sweep_override():
                choices.append([("", None, text)])
                continue
            key, where = override.get_key_element(), f"command line: {text}"
            if not override.is_discrete_sweep():
                allowed = "values: 1,2,3 or range(1,4); `iter tune` searches in intervals"
                problems.append(Problem(key, "an interval has no end of points", text, allowed, "", where))
                continue
            values = list(override.sweep_string_iterator())
            if not values:
                known = ", ".join(parser.config_loader.get_group_options(key))  # type: ignore[union-attr]
                problems.append(Problem(key, "no option fits", "", known or "a config group", "", where))
            choices.append([(key.lstrip("+"), value, f"{key}={value}") for value in values])
    if problems:
        raise RecipeError(problems)
    return [
        SweepPoint(
            "",
            {key: value for key, value, _ in picked if value is not None},
            [override for _, _, override in picked],
        )
        for picked in itertools.product(*choices)
    ]


def _together(wrong: list[tuple[SweepPoint, RecipeError]], total: int) -> RecipeError:
    """One report; a problem of several points is in it once, with the points it is in."""
    points: dict[tuple[str, ...], list[tuple[SweepPoint, Problem]]] = {}
    for point, error in wrong:
        for p in error.problems:
            points.setdefault((p.key, p.what, p.found, p.allowed), []).append((point, p))
    problems = []
    for at in points.values():
        point, problem = at[0]
        swept = [f"{key}={value}" for key, value in point.changed.items()]
        if len(at) < total and not problem.where.endswith(tuple(swept)):
            others = f" and {len(at) - 1} more" if len(at) > 1 else ""
            problem = replace(problem, where=f"{problem.where} (point {point.label}{others})".lstrip())
        problems.append(problem)
    return RecipeError(problems, "+".join(dict.fromkeys(e.recipe for _, e in wrong if e.recipe)))

"""What one `iter tune` line means: the recipe, the space, and whether all of it can be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from itercli.recipe.compose import compose_recipe
from itercli.recipe.errors import Problem, RecipeError, nearest
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import Locate, RecipeConfig
from itercli.recipe.seeds import digest
from itercli.recipe.tree import GROUP_KEYS, OVERRIDE
from itercli.recipe.trust import check_composed
from itercli.tune.space import SWEEPS, corners, overrides_of, split
from itercli.tune.spec import Knob, TuneSpec

SHORT = ("metric", "direction", "trials", "seeds")  # may stand without `tune.`
NEVER = ("recipe", "seed", "tune", "plugins")  # what a study is over, or varies by itself


@dataclass(frozen=True)
class Line:
    """A study as its command line and its recipe describe it.

    Attributes:
        name: Recipe and a hash of all that decides the trials, but for how many there are.
        spec: The recipe's `tune:` and the line together; space and metric complete.
        fixed: Overrides that every run of the study is given.
        seed: Of the first run of a trial.
        iterations: Of a run, where the space doesn't vary it.
    """

    name: str
    recipe: str
    spec: TuneSpec
    fixed: tuple[str, ...]
    recipes: tuple[str, ...]
    seed: int
    iterations: int
    download: bool = True
    trust: bool = False

    @property
    def metric(self) -> str:
        """STAGE.METRIC."""
        return str(self.spec.metric)

    def seeds(self) -> range:
        """The seeds of a trial's runs."""
        return range(self.seed, self.seed + self.spec.seeds)

    def overrides(self, values: Mapping[str, Any], seed: int) -> list[str]:
        """What `iter run` is given for one run of a trial; the first seed is the recipe's own."""
        own = [f"seed={seed}"] if seed != self.seed else []
        return [*self.fixed, *overrides_of(values), *own]

    def plan(self, values: Mapping[str, Any], seed: int) -> Plan:
        """The whole run of a point with a seed.

        Raises:
            RecipeError: The point can't be run.
        """
        return _plan(self.overrides(values, seed), self.recipes, self.download, self.trust)


def read(overrides: Sequence[str], recipes: Sequence[str], *, download: bool, trust: bool = False) -> Line:
    """Read a line and check the whole study: space, metric, and a plan of each corner.

    Args:
        trust: See `itercli.recipe.trust`.

    Raises:
        RecipeError: With everything that is wrong.
    """
    given = [_spelled_out(o) for o in overrides]
    settings = [o for o in given if o.startswith("tune.")]
    fixed, shell = split([o for o in given if o not in settings])
    first = overrides_of(corners(shell)[0])
    composed = compose_recipe([*fixed, *first, *settings], recipes)
    try:
        recipe = check_composed(composed, trust=trust)
    except RecipeError as error:
        raise _at_the_knob(error, shell, overrides, composed.locate) from None
    spec = recipe.config.tune or TuneSpec()
    pinned = {m["key"] for o in fixed if (m := OVERRIDE.match(o))}
    space = {k: v for k, v in spec.space.items() if k not in pinned} | shell
    spec = spec.model_copy(
        update={"space": dict(sorted(space.items())), "metric": spec.metric or recipe.config.headline}
    )
    if problems := _problems(spec, composed.locate):
        raise _at_the_knob(RecipeError(problems, recipe.config.name), shell, overrides, composed.locate)
    plan_of = partial(_plan, recipes=recipes, download=download, trust=trust)
    plan = _plan_corners(fixed, settings, spec.space, plan_of, overrides, composed.locate)
    decides = {
        **spec.model_dump(mode="json", exclude={"trials"}),
        "nodes": [n.key for n in plan.nodes.values()],
    }
    return Line(
        name=f"{recipe.config.name}-{digest(decides, 8)}",
        recipe=recipe.config.name,
        spec=spec,
        fixed=tuple(fixed),
        recipes=tuple(recipes),
        seed=recipe.config.seed,
        iterations=recipe.config.iterations,
        download=download,
        trust=trust,
    )


def _plan(overrides: Sequence[str], recipes: Sequence[str], download: bool, trust: bool) -> Plan:
    return build_plan(check_composed(compose_recipe(overrides, recipes), trust=trust), download=download)


def _plan_corners(
    fixed: list[str],
    settings: list[str],
    space: Mapping[str, Knob],
    plan_of: Callable[[Sequence[str]], Plan],
    line: Sequence[str],
    locate: Locate,
) -> Plan:
    """Plans of all corners; the first is returned."""
    plans: list[Plan] = []
    found: dict[tuple[str, str, str], Problem] = {}
    name = ""
    for values in corners(space):
        try:
            plans.append(plan_of([*fixed, *overrides_of(values), *settings]))
        except RecipeError as error:
            name = error.recipe or name
            for problem in _at_the_knob(error, space, line, locate).problems:
                found.setdefault((problem.key, problem.what, problem.nearest), problem)
    if found:
        raise RecipeError(found.values(), name)
    return plans[0]


def _spelled_out(override: str) -> str:
    """`trials=20` -> `tune.trials=20`, with a misspelt one reported."""
    match = OVERRIDE.match(override)
    if match is None or match["prefix"]:
        return override
    key = match["key"]
    if key in SHORT:
        return f"tune.{override}"
    known = {*RecipeConfig.model_fields, *GROUP_KEYS}
    if "." not in key and key not in known and (near := nearest(key, [*SHORT, *known])) in SHORT:
        allowed = ", ".join(SHORT)
        raise RecipeError([Problem(key, "unknown key", "", allowed, near, f"command line: {override}")])
    return override


def _problems(spec: TuneSpec, locate: Locate) -> list[Problem]:
    found = [
        Problem(key, "can't be tuned", "", "keys of one recipe; for several seeds: seeds=3", "", locate(key))
        for key in spec.space
        if key.split(".")[0] in NEVER
    ]
    if not spec.space:
        found.append(Problem("tune.space", "nothing to tune", "", f"KEY=SWEEP on the command line: {SWEEPS}"))
    if not spec.metric:
        found.append(
            Problem("tune.metric", "which metric? The recipe has no headline", "", "metric=STAGE.METRIC")
        )
    return found


def _at_the_knob(
    error: RecipeError, space: Mapping[str, Knob], line: Sequence[str], locate: Locate
) -> RecipeError:
    """The error of a point, placed at what the user wrote: the point's overrides are ours."""
    places = {}
    for key in space:
        written = [o for o in line if o.startswith(f"{key}=")]
        places[key] = f"command line: {written[-1]}" if written else locate(f"tune.space.{key}")
    moved = []
    for p in error.problems:
        key = p.where.removeprefix("command line: ").partition("=")[0]
        at_knob = p.where.startswith("command line: ") and key in places
        moved.append(replace(p, where=places[key]) if at_knob else p)
    return RecipeError(moved, error.recipe)

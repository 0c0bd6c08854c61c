"""The search space: from the shell's sweep syntax, to Optuna and to overrides.

The syntax is Hydra's: ``n=4,8``, ``n=choice(4,8)``, ``n=range(1,9,2)``, ``lr=interval(0.1,0.9)``,
``lr=tag(log,interval(1e-5,1e-3))`` and ``epochs=int(interval(1,3))``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, QuotedString, RangeSweep
from hydra.errors import HydraException
from pydantic import ValidationError

from itercli.recipe.errors import Problem, RecipeError
from itercli.recipe.tree import OVERRIDE
from itercli.tune.spec import Knob

if TYPE_CHECKING:
    from optuna import Trial

PLAIN = re.compile(r"[A-Za-z0-9_./@+-]+")
DIGITS = 4  # of a drawn number: a command line that a person can read, and type
SWEEPS = (
    "a,b | choice(a,b) | range(1,9,2) | interval(0.1,0.9) | tag(log,interval(1e-5,1e-3)) | int(interval(1,8))"
)


def split(overrides: Sequence[str]) -> tuple[list[str], dict[str, Knob]]:
    """Overrides that set one value, and the keys that are swept.

    Raises:
        RecipeError: A sweep that can't be read, or of a kind that can't be tuned.
    """
    parser = OverridesParser.create()
    fixed: list[str] = []
    space: dict[str, Knob] = {}
    for override in overrides:
        match = OVERRIDE.match(override)
        try:
            parsed = parser.parse_override(override)
        except HydraException as error:
            if re.search(r"=\s*(tag|interval|range|choice|int|float|shuffle|sort)\(", override):
                what = " ".join(str(error).split("\n")[0].split())
                raise RecipeError([_problem(override, what)]) from None
            fixed.append(override)  # composing says what is wrong with it, or knows it as a path
            continue
        if match is None or not parsed.is_sweep_override():
            fixed.append(override)
        elif match["prefix"]:
            raise RecipeError([_problem(override, "give a key that is tuned without + or ~")])
        else:
            space[match["key"]] = _knob(override, parsed.value())
    return fixed, space


def _knob(override: str, sweep: Any) -> Knob:
    try:
        if isinstance(sweep, ChoiceSweep):
            return Knob(choices=tuple(_plain(v) for v in sweep.list))
        if isinstance(sweep, IntervalSweep):
            return Knob(low=sweep.start, high=sweep.end, log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep):
            start, stop, step = sweep.start or 0, sweep.stop or 0, sweep.step
            steps = -(-(stop - start) // step) - 1  # the end is left out
            return Knob(low=start, high=start + steps * step, step=step)
    except ValidationError as error:
        raise RecipeError([_problem(override, error.errors()[0]["msg"])]) from None
    raise RecipeError([_problem(override, "can't be tuned")])


def _problem(override: str, what: str) -> Problem:
    return Problem(override.partition("=")[0], what, "", SWEEPS, "", f"command line: {override}")


def _plain(value: Any) -> Any:
    """Hydra's parsed value without its quotes."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, Mapping):
        return {str(_plain(k)): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def text(value: Any) -> str:
    """A value as the right side of an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text(v) for v in value) + "]"
    if isinstance(value, str):
        if PLAIN.fullmatch(value) and isinstance(yaml.safe_load(value), str):
            return value
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return repr(value)


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """A point of the space as overrides."""
    return [f"{key}={text(value)}" for key, value in values.items()]


def suggest(trial: Trial, space: Mapping[str, Knob]) -> dict[str, Any]:
    """A trial's point: drawn, or what was drawn for it before it was cut off."""
    for key, knob in space.items():
        if knob.choices:
            trial.suggest_categorical(key, [_scalar(c) for c in knob.choices])
        elif knob.whole:
            low, high = map(int, knob.ends)
            trial.suggest_int(key, low, high, step=int(knob.step or 1), log=knob.log)
        else:
            trial.suggest_float(key, *knob.ends, step=knob.step, log=knob.log)
    return point(trial.params, space)


def point(params: Mapping[str, Any], space: Mapping[str, Knob]) -> dict[str, Any]:
    """What the runs of a trial are given for the parameters that Optuna keeps."""
    found: dict[str, Any] = {}
    for key, knob in space.items():
        if key not in params:  # cut off between two draws
            continue
        value = params[key]
        if knob.choices:
            found[key] = next(c for c in knob.choices if _same(_scalar(c), value))
        elif knob.whole:
            found[key] = value
        else:
            low, high = knob.ends
            found[key] = min(max(float(f"{value:.{DIGITS}g}"), low), high)
    return found


def corners(space: Mapping[str, Knob]) -> list[dict[str, Any]]:
    """Points that show whether a space can be run: lowest, highest, and each other choice."""
    ends = {key: k.choices or k.ends for key, k in space.items()}
    low = {key: values[0] for key, values in ends.items()}
    found = [low, {key: values[-1] for key, values in ends.items()}]
    for key, values in ends.items():
        found += [{**low, key: value} for value in values[1:-1]]
    return found


def _scalar(choice: Any) -> bool | int | float | str | None:
    """Optuna keeps scalars only; a list or a mapping goes by its text."""
    return choice if choice is None or isinstance(choice, bool | int | float | str) else text(choice)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b

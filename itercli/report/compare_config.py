"""In which options runs differ, from their resolved recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from itercli.recipe.schema import SCOPES

TEXTS = ("name", "description", "paper")  # these say what a recipe is, not what it does
Values = dict[str, Any]


def differences(configs: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Keys that are not the same in all runs.

    An option that a recipe hands on (`data.eval.limit`) stands in its resolved form several
    times; the same last name with the same values is one difference, and `also` has the rest.
    A mapping that a run does not have at all, a stage say, is one difference.

    Args:
        configs: Run -> resolved recipe.

    Returns:
        ``[{"key", "values": {run: value}, "also": [key]}]``; a run that lacks the key is not in `values`.
    """
    whole = {run: {k: v for k, v in config.items() if k not in TEXTS} for run, config in configs.items()}
    groups: dict[tuple[str, str], list[tuple[str, Values]]] = {}
    for path, values in _walk((), whole, set(configs)):
        same = json.dumps(values, sort_keys=True, default=str)
        groups.setdefault((path[-1], same), []).append((".".join(path), values))
    found = []
    for group in groups.values():
        # The settings come before the stages that they are handed to.
        ordered = sorted(group, key=lambda item: (item[0].partition(".")[0] in SCOPES, item[0].count(".")))
        (key, values), *rest = ordered
        found.append({"key": key, "values": values, "also": [k for k, _ in rest]})
    return found


def _walk(
    path: tuple[str, ...], values: Mapping[str, Any], runs: set[str]
) -> Iterator[tuple[tuple[str, ...], Values]]:
    """Paths at which the values of runs differ, as deep as all of them are mappings."""
    if path and path[0] in SCOPES and len(path) == 2:  # a derived recipe drops a stage by null
        values = {run: value for run, value in values.items() if value is not None}
    if values.keys() == runs and all(isinstance(v, dict) for v in values.values()):
        for key in dict.fromkeys(k for v in values.values() for k in v):
            below = {run: v[key] for run, v in values.items() if key in v}
            yield from _walk((*path, str(key)), below, runs)
    elif values and (values.keys() != runs or any(v != next(iter(values.values())) for v in values.values())):
        yield path, dict(values)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; lists are values."""
    if not isinstance(value, dict):
        return {prefix: value}
    parts = [flat(v, f"{prefix}.{k}" if prefix else str(k)) for k, v in value.items()]
    return {k: v for part in parts for k, v in part.items()}

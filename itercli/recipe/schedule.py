"""Numbers by iteration: `lr: [5e-6, 4e-6, 3e-6]` for an option that is one number.

A list for a numeric option of a stage, or of a component or group of options inside it, is its
value by iteration. It is resolved when the stage is made for an iteration, so before keys are
made: another value for iteration 3 leaves the keys of iterations 1 and 2 as they are. The last
value holds for all further iterations; `before:` takes the first one, `after:` the last
iteration's. Options that are lists by themselves are left alone.
"""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo

from itercli import registry
from itercli.recipe.fields import COMPONENT

Counts = dict[str, int]


def at_iteration(
    cls: type[BaseModel], given: dict[str, Any], iteration: int, counts: Counts
) -> dict[str, Any]:
    """Options of an iteration.

    Args:
        cls: The class whose options they are.
        given: Options as in a recipe, perhaps with lists by iteration.
        iteration: From 1; 0 is before the loop.
        counts: Gets the dotted key of each list, and how many values it has.
    """
    return _resolved(cls, given, iteration, counts, "")


def _resolved(
    cls: type[BaseModel], given: dict[str, Any], iteration: int, counts: Counts, prefix: str
) -> dict[str, Any]:
    found = dict(given)
    for name, value in given.items():
        field = cls.model_fields.get(name)
        if field is None:
            continue
        key = f"{prefix}{name}"
        if isinstance(value, list | tuple) and value and is_number(field):
            counts[key] = len(value)
            found[name] = value[min(max(iteration, 1), len(value)) - 1]
        elif isinstance(value, dict) and (inner := _inner(field, value)):
            found[name] = _resolved(inner, value, iteration, counts, f"{key}.")
    return found


def is_number(field: FieldInfo) -> bool:
    """Whether an option is one number (or null), so that a list for it means iterations."""
    kinds = _members(field.annotation)
    return bool(kinds & {int, float}) and kinds <= {int, float, type(None)}


def _members(annotation: Any) -> set[Any]:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _members(part)}
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    return {annotation}


def _inner(field: FieldInfo, value: dict[str, Any]) -> type[BaseModel] | None:
    """The class of a component or a group of options in a field."""
    for note in field.metadata:
        if isinstance(note, WithJsonSchema) and note.json_schema and COMPONENT in note.json_schema:
            return registry.find(str(note.json_schema[COMPONENT]), str(value.get("name")))
    models = [k for k in _members(field.annotation) if isinstance(k, type) and issubclass(k, BaseModel)]
    return models[0] if len(models) == 1 else None


def schedule_notes(counts: Counts, iterations: int) -> list[str]:
    """What a plan says of lists that are not as long as the loop."""
    found = []
    for key, n in counts.items():
        if n < iterations:
            found.append(f"{key}: {n} values for {iterations} iterations, the last holds for the others")
        elif n > iterations:
            found.append(f"{key}: {n} values, of which {iterations} iterations take the first {iterations}")
    return found

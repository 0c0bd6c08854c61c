"""Typed fields that name components, so nested options are checked like everything else.

In YAML a component is its name, or a mapping with ``name`` and its options::

    scorer: functional
    scorer: {name: itertl.quality, stub_score: 0.01}
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from itercli import registry
from itercli.recipe.errors import nearest, shorten
from itercli.registry import Component

NESTED = "component_errors"
UNKNOWN = "component_unknown"
COMPONENT = "x-component"
T = TypeVar("T", bound=Component)


def parse_component(group: str, value: Any, name_key: str = "name") -> Component:
    """Turn a name or a mapping into a component.

    Raises:
        PydanticCustomError: Unknown name, or wrong options (nested errors in its context).
    """
    if isinstance(value, Component):
        return value
    if isinstance(value, str):
        value = {name_key: value}
    if not isinstance(value, dict) or not isinstance(value.get(name_key), str):
        raise PydanticCustomError(
            UNKNOWN,
            "expected a {group} name or a mapping with `{name_key}`",
            {
                "group": group,
                "name_key": name_key,
                "found": shorten(value),
                "allowed": _names(group),
                "near": "",
            },
        )
    name = value[name_key]
    cls = registry.find(group, name)
    if cls is None:
        raise PydanticCustomError(
            UNKNOWN,
            "unknown {group} {found}",
            {
                "group": group,
                "found": shorten(name),
                "allowed": _names(group),
                "near": nearest(name, registry.names(group)),
                "at": name_key,
            },
        )
    options = {k: v for k, v in value.items() if k != name_key}
    try:
        return cls.model_validate(options)
    except ValidationError as error:
        raise PydanticCustomError(
            NESTED,
            "wrong options of {group} {name}",
            {"group": group, "name": name, "error": error, "cls": cls},
        ) from error
    except TypeError as error:  # a plug-in that leaves a method out
        raise PydanticCustomError(
            UNKNOWN,
            "{error}",
            {"error": str(error), "group": group, "found": shorten(name), "allowed": "", "near": ""},
        ) from error


def _names(group: str) -> str:
    return ", ".join(registry.names(group))


def _dump(component: Component) -> dict[str, Any]:
    return {"name": component.NAME, **component.model_dump(mode="json")}


def component_field(group: str) -> Any:
    """An annotation for a field that holds a component of `group`."""
    return Annotated[
        Component,
        PlainValidator(lambda value: parse_component(group, value)),
        PlainSerializer(_dump, return_type=dict),
        WithJsonSchema({COMPONENT: group}),  # `itercli.recipe.json_schema` puts the group's options there
    ]


def _by_name(value: Any) -> Any:
    """Trackers as a mapping, from what people write: a name, a list, ``{name: options}``, ``{name: ...}``."""
    if isinstance(value, dict) and isinstance(value.get("name"), str):  # one, written like any component
        value = {value["name"]: {k: v for k, v in value.items() if k != "name"}}
    if value is None or isinstance(value, str):
        value = [value or "none"]
    if isinstance(value, list):
        value = {str(name): {} for name in value}
    if not isinstance(value, dict):
        return value
    for name in (n for n in value if n != "none" and registry.find("tracker", str(n)) is None):
        near = nearest(str(name), registry.names("tracker"))
        context = {"found": shorten(name), "allowed": _names("tracker"), "near": near}
        raise PydanticCustomError(UNKNOWN, "no tracker of this name", context)
    return {
        name: {"name": name, **options} if isinstance(options, dict) else name if options is None else options
        for name, options in value.items()
        if name != "none"
    }


def trackers_field() -> Any:
    """An annotation for a field that holds trackers by name, see `_by_name`."""
    return Annotated[dict[str, component_field("tracker")], BeforeValidator(_by_name)]  # type: ignore[misc]


Source = component_field("source")
Sampler = component_field("sampler")
Scorer = component_field("scorer")
Selector = component_field("selector")
Method = component_field("method")
Environment = component_field("environment")
Trackers = trackers_field()

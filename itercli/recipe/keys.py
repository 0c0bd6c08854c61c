"""The keys that can be set from the shell for a composed recipe, with help and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from itercli import registry
from itercli.recipe.fields import COMPONENT
from itercli.recipe.json_schema import IN_PLACE
from itercli.recipe.schema import SCOPES, ExecutorSpec, RecipeConfig, StopRule
from itercli.training.base import TrainingSpec

Json = dict[str, Any]
SCALARS = ("seed", "iterations", "headline")


def override_keys(raw: Json) -> dict[str, tuple[str, list[str]]]:
    """Dotted key -> help and known values (empty: any), in the recipe's order.

    Args:
        raw: The composed recipe; it need not be valid.
    """
    return dict(_keys(raw))


def _keys(raw: Json) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    top = RecipeConfig.model_json_schema()
    for key in SCALARS:
        yield key, _about(top["properties"][key], top)
    for prefix, model in (("training", TrainingSpec), ("executor", ExecutorSpec), ("stop", StopRule)):
        yield from _model(prefix, model, raw.get(prefix))
    yield from _component("sampler", "sampler", raw.get("sampler"))
    for role in _mapping(raw.get("roles")):
        yield f"roles.{role}", ("", [])
    yield from _plain("data", raw.get("data"))
    for scope in SCOPES:
        for name, stage in _mapping(raw.get(scope)).items():
            cls = registry.find("stage", str(_mapping(stage).get("uses")))
            yield f"{scope}.{name}", ("null leaves the stage out", ["null"])
            if cls is not None:
                yield from _model(f"{scope}.{name}", cls, stage, roles=list(_mapping(raw.get("roles"))))


def _model(
    prefix: str, model: type[BaseModel], given: Any, roles: list[str] | None = None
) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    schema = model.model_json_schema()
    given = _mapping(given)
    for key, option in schema.get("properties", {}).items():
        if key == "uses":
            continue
        what, values = _about(option, schema)
        group = option.get(COMPONENT) or (IN_PLACE.get(key) if "anyOf" in option else None)
        if key == "role" and roles:
            values = roles
        yield f"{prefix}.{key}", (what, registry.names(group) if group else values)
        if group:
            yield from _component(f"{prefix}.{key}", group, given.get(key))
        elif key == "training":
            yield from _model(f"{prefix}.training", TrainingSpec, given.get(key))
        elif "$ref" in option:
            inner = schema["$defs"][option["$ref"].rpartition("/")[2]]
            for name, part in inner.get("properties", {}).items():
                yield f"{prefix}.{key}.{name}", _about(part, schema)


def _component(prefix: str, group: str, given: Any) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Options of the component that is named in the recipe."""
    name = given if isinstance(given, str) else _mapping(given).get("name")
    cls = registry.find(group, str(name))
    if isinstance(given, dict):
        yield f"{prefix}.name", ("", registry.names(group))
    if cls is not None and isinstance(given, dict):  # a bare name has no options to set
        yield from _model(prefix, cls, given)


def _plain(prefix: str, value: Any) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    for key, inner in _mapping(value).items():
        yield f"{prefix}.{key}", ("", [])
        name = _mapping(inner).get("name")
        if registry.find("source", str(name)) is not None:
            yield from _component(f"{prefix}.{key}", "source", inner)
        else:
            yield from _plain(f"{prefix}.{key}", inner)


def _about(option: Json, schema: Json) -> tuple[str, list[str]]:
    values: list[str] = []
    for part in [option, *option.get("anyOf", ())]:
        if "$ref" in part:
            part = schema.get("$defs", {}).get(part["$ref"].rpartition("/")[2], part)
        values += [str(v) for v in part.get("enum", ())]
        if part.get("type") == "boolean":
            values += ["true", "false"]
        if part.get("type") == "null":
            values.append("null")
    return str(option.get("description", "")).partition(". ")[0], values if values != ["null"] else []


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}

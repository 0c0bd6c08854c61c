"""JSON Schema (draft 2020-12) of recipe files, for editors, made from the pydantic models.

A file is checked before Hydra merges it, so less can be said than by `iter validate`: any
key may come from the recipe that it derives from, which is why none is required; and an
interpolation ``${...}`` may stand for any value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from itercli import registry
from itercli.recipe.fields import COMPONENT
from itercli.recipe.schema import SCOPES, RecipeConfig
from itercli.training.base import TrainingSpec

Json = dict[str, Any]
REFERENCE = re.compile(r'"(#/\$defs/[^"]+)"')
DIALECT = "https://json-schema.org/draft/2020-12/schema"
# `stop: "${...}"`, `n: 2${...}`, and `???` for what the user has to give.
INTERPOLATION = {"type": "string", "pattern": r"\$\{.+\}|^\?\?\?$"}
# Options that take a component in place without being typed so: their child stage is.
IN_PLACE = {"prompts": "source", "seeds": "source", "scorer": "scorer", "sampler": "sampler"}


def recipe_schema() -> Json:
    """The schema of a recipe file, with every registered component."""
    classes = {
        (group, name): cls
        for group in registry.GROUPS
        for name in registry.names(group)
        if (cls := registry.find(group, name)) is not None
    }
    models: list[type[BaseModel]] = [RecipeConfig, TrainingSpec, *classes.values()]
    refs, found = models_json_schema([(m, "validation") for m in dict.fromkeys(models)])
    raw = found["$defs"]
    varying = _within(raw, [_name(refs[c, "validation"]) for (g, _), c in classes.items() if g != "tracker"])
    varying.add(_name(refs[TrainingSpec, "validation"]))
    defs = {name: _options(schema, name in varying) for name, schema in raw.items()}
    for (group, name), cls in classes.items():
        here: Json = defs[_name(refs[cls, "validation"])]
        for key in _prepared(cls):  # what it is made from is known to its validator alone
            here["properties"][key] = {k: v for k, v in here["properties"][key].items() if k != "anyOf"}
        if group != "stage":
            here.setdefault("properties", {})["name"] = {"const": name}
    for group in registry.GROUPS:
        members = {n: _name(refs[c, "validation"]) for (g, n), c in classes.items() if g == group}
        defs[group] = _group(group, members, defs)
    top = defs.pop(_name(refs[RecipeConfig, "validation"]))
    training = {"$ref": f"#/$defs/{_name(refs[TrainingSpec, 'validation'])}"}
    others: Json = {
        "defaults": {
            "description": "The recipe that this one derives from, and parts chosen by default: "
            "[itertl, _self_], [override /trainer: lora].",
            "type": "array",
        },
        "data": _or(raw[_name(refs[RecipeConfig, "validation"])]["properties"]["data"]),
        "sampler": _or({"$ref": "#/$defs/sampler"}),
        "training": _or(training),
        "tracker": _or(_trackers(classes)),
        **{scope: _or(_stages(scope)) for scope in SCOPES},
    }
    top["properties"].update(others)
    if "Knob" in defs:
        defs["Knob"] = {"anyOf": [defs["Knob"], {"type": "array"}]}
    return {
        "$schema": DIALECT,
        "title": "itercli recipe",
        **top,
        "$defs": dict(sorted(defs.items())),
    }


def type_name(option: Json) -> str:
    """A property's type in words, for example ``number or null``."""
    if COMPONENT in option:
        return str(option[COMPONENT])
    if "anyOf" in option:
        return " or ".join(dict.fromkeys(type_name(o) for o in option["anyOf"]))
    if "enum" in option:
        return " | ".join(map(str, option["enum"]))
    if "const" in option:
        return str(option["const"])
    if option.get("type") == "array":
        inner = option.get("items")
        return f"list of {type_name(inner)}" if isinstance(inner, dict) else "list"
    if "$ref" in option or option.get("type") == "object":
        return "mapping"
    return {"string": "text", "integer": "whole number", "boolean": "true | false"}.get(
        option.get("type", ""), str(option.get("type", "any"))
    )


def _name(ref: Json) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _prepared(cls: type[BaseModel]) -> set[str]:
    """Fields that a validator makes from something else first, for example a list from a name."""
    found = cls.__pydantic_decorators__.field_validators.values()
    return {field for v in found if v.info.mode == "before" for field in v.info.fields}


def _or(schema: Json) -> Json:
    """The same, or an interpolation."""
    notes = {k: v for k, v in schema.items() if k in ("description", "default")}
    rest = {k: v for k, v in schema.items() if k not in notes}
    return {**notes, "anyOf": [rest, INTERPOLATION]} if rest else notes


def _within(defs: Json, names: Iterable[str]) -> set[str]:
    """These definitions and those that they refer to."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [ref.rpartition("/")[2] for ref in REFERENCE.findall(json.dumps(defs[name]))]
    return found


def _by_iteration(option: Json) -> Json:
    """A number, or a list of its values by iteration."""
    kinds = option.get("anyOf", [option])
    if not all(kind.get("type") in ("number", "integer", "null") for kind in kinds):
        return option
    notes = {k: v for k, v in option.items() if k in ("description", "default")}
    each = [{k: v for k, v in kind.items() if k not in notes} for kind in kinds]
    items = each[0] if len(each) == 1 else {"anyOf": each}
    return {**notes, "anyOf": [*each, {"type": "array", "items": items, "minItems": 1}]}


def _options(schema: Json, varying: bool) -> Json:
    """A model's schema as a part of a file: nothing required, interpolations everywhere.

    Args:
        varying: Whether numbers may be lists by iteration.
    """
    if "properties" not in schema:
        return dict(schema)
    options = {}
    for key, option in schema["properties"].items():
        group = IN_PLACE.get(key)
        if group and {"additionalProperties": True, "type": "object"} in option.get("anyOf", ()):
            others = [o for o in option["anyOf"] if o.get("type") != "object"]
            option = {**option, "anyOf": [*others, {"$ref": f"#/$defs/{group}"}]}
        loose = _loosen(option)
        options[key] = option if "const" in option else _or(_by_iteration(loose) if varying else loose)
    return {**{k: v for k, v in schema.items() if k not in ("required", "title")}, "properties": options}


def _loosen(value: Any) -> Any:
    """References to components filled in, interpolations as items and values; without notes for code."""
    if isinstance(value, list):
        return [_loosen(v) for v in value]
    if not isinstance(value, dict):
        return value
    if COMPONENT in value:
        rest = {k: v for k, v in value.items() if k not in (COMPONENT, "title")}
        return {**rest, "$ref": f"#/$defs/{value[COMPONENT]}"}
    found = {k: v if k == "default" else _loosen(v) for k, v in value.items() if k not in ("title", "how")}
    for inner in ("items", "additionalProperties"):
        if isinstance(found.get(inner), dict):
            found[inner] = _or(found[inner])
    return found


def _group(group: str, members: dict[str, str], defs: dict[str, Json]) -> Json:
    """A discriminated union: a component by name, or a mapping with its name and options."""
    key = "uses" if group == "stage" else "name"
    known = {n: {"$ref": f"#/$defs/{d}"} for n, d in members.items()}
    keys = sorted({k for d in members.values() for k in defs[d].get("properties", {})} | {key})
    named = {"properties": {key: {"type": "string"}}, "required": [key]}
    mapping = {
        "type": "object",
        "properties": {key: {"anyOf": [{"enum": list(known)}, INTERPOLATION]}},
        "allOf": [
            # A derived recipe changes options without naming the component again.
            {"if": {"not": named}, "then": {"propertyNames": {"enum": keys}}},
            *(
                {"if": {"properties": {key: {"const": n}}, "required": [key]}, "then": ref}
                for n, ref in known.items()
            ),
        ],
    }
    return mapping if group == "stage" else {"anyOf": [{"enum": list(known)}, INTERPOLATION, mapping]}


def _stages(scope: str) -> Json:
    when = {"before": "Once, before the loop.", "loop": "Every iteration.", "after": "Once, after the loop."}
    stage = {"anyOf": [{"$ref": "#/$defs/stage"}, {"type": "null"}, INTERPOLATION]}
    return {
        "description": f"{when[scope]} Stages in their order, name -> options; null leaves one out.",
        "type": "object",
        "additionalProperties": stage,
    }


def _trackers(classes: dict[tuple[str, str], Any]) -> Json:
    names = [n for g, n in classes if g == "tracker"]
    options = {n: {"anyOf": [{"$ref": "#/$defs/tracker"}, {"type": "null"}]} for n in names}
    one = {"enum": ["none", *names]}
    by_name = {"type": "object", "properties": options, "additionalProperties": False}
    return {
        "description": "Where metrics are sent besides metrics.jsonl.",
        "anyOf": [one, {"type": "array", "items": one}, by_name, {"$ref": "#/$defs/tracker"}],
    }

"""What the schema says of options: meaning, default, choices, whether they change results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from recipe_page_yaml import plain

from itercli import registry
from itercli.recipe.parts import attributes
from itercli.recipe.schema import SCOPES, RecipeConfig
from itercli.training.base import TrainingSpec


@dataclass(frozen=True)
class Option:
    """An option: its default as text, what it means, what it can be, whether it changes results."""

    default: str
    meaning: str
    choices: str
    changes: bool


def option(parts: list[str], raw: dict[str, Any]) -> Option | None:
    """What the schema says of a key of the composed recipe `raw`; None where it says nothing."""
    cls, name = place(parts, raw)
    info = cls.model_fields.get(name) if cls else None
    if cls is None or info is None:
        return None
    extra = info.json_schema_extra
    how = isinstance(extra, dict) and bool(extra.get("how"))
    # `once` decides which stages there are, and of a file the content counts.
    how = how and name != "once" and Path not in (info.annotation, *get_args(info.annotation))
    choices = " | ".join(f"`{c}`" for c in _choices(info.annotation))
    said = info.description or attributes(cls).get(name, "")
    return Option(_default(info), said, choices, not how)


def holds_options(parts: list[str], raw: dict[str, Any]) -> bool:
    """Whether a key of `raw` is a mapping of options: of the recipe, a stage, a component or a model."""
    if len(parts) == 1 and parts[0] in SCOPES:
        return True
    if not isinstance(value_at(parts, raw), dict):
        return False
    if len(parts) == 1 or (parts[0] in SCOPES and len(parts) == 2):
        return True
    cls, name = place(parts, raw)
    return cls is not None and nested(cls, name, value_at(parts, raw)) is not None


MISSING = object()


def value_at(parts: list[str], raw: Any) -> Any:
    """The value of a dotted key, or `MISSING`."""
    for part in parts:
        raw = raw.get(part, MISSING) if isinstance(raw, dict) else MISSING
    return raw


def place(parts: list[str], raw: dict[str, Any]) -> tuple[type[BaseModel] | None, str]:
    """The class that has a key of the composed recipe as its field, and the field's name."""
    cls: type[BaseModel] | None = RecipeConfig
    value: Any = raw
    if parts[0] in SCOPES and len(parts) > 2:
        value = (raw.get(parts[0]) or {}).get(parts[1]) or {}
        cls, parts = registry.find("stage", str(value.get("uses"))), parts[2:]
    elif parts[0] == "training" and len(parts) > 1:
        cls, value, parts = TrainingSpec, raw["training"], parts[1:]
    while cls and len(parts) > 1:
        value = value.get(parts[0]) if isinstance(value, dict) else None
        cls, parts = nested(cls, parts[0], value), parts[1:]
    return cls, parts[0]


def nested(cls: type[BaseModel], name: str, value: Any) -> type[BaseModel] | None:
    """The class of a field's value: a component named in it, or a model that it is typed as."""
    if name in registry.GROUPS:
        return registry.find(name, str(value.get("name") if isinstance(value, dict) else value))
    info = cls.model_fields.get(name)
    types = [info.annotation, *get_args(info.annotation)] if info else []
    return next((t for t in types if isinstance(t, type) and issubclass(t, BaseModel)), None)


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    return "" if value is PydanticUndefined else plain(value)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(a) for a in get_args(annotation)]
    if get_origin(annotation) is dict:
        return []
    return [c for a in get_args(annotation) for c in _choices(a)]

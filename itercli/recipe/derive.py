"""A new recipe that derives from another: short, with what people change as comments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from itercli.recipe.schema import Recipe, RecipeConfig
from itercli.training.base import TrainingSpec

HEAD = """\
# @package _global_
# Derives from {base}: only what differs stands here. All of it: `iter recipes show {name}`
defaults:
  - {base}
  - _self_

name: {name}
description: "{base}, changed"

# What {base} sets, to begin with: uncomment a line and those that it is indented under.
# `iter schema --stage NAME` lists every option of a stage; `STAGE: null` leaves a stage out.
"""
COLUMN = 40  # where the help begins


def derived(name: str, base: str, recipe: Recipe) -> str:
    """The text of a recipe file.

    Args:
        name: Name of the new recipe.
        base: Name of the one that it derives from.
        recipe: That one, checked.
    """
    return HEAD.format(name=name, base=base) + "".join(f"# {line}".rstrip() + "\n" for line in _hints(recipe))


def _hints(recipe: Recipe) -> Iterator[str]:
    config = {key: getattr(recipe.config, key) for key in ("iterations", "seed")}
    for key, value in config.items():
        yield _line(0, key, value, RecipeConfig.model_fields[key].description)
    yield "training:"
    for key, value in recipe.raw.get("training", {}).items():
        if _simple(value) and (field := TrainingSpec.model_fields.get(key)):
            yield _line(1, key, value, field.description)
    yield "loop:"
    for name, stage in recipe.stages["loop"].items():
        given = recipe.raw["loop"].get(name)
        if given is None:  # a part of another stage
            continue
        wired = {"uses", "role", *(link.key for link in stage.links(name))}
        wired |= {link.key for link in stage.model_links()}
        fields = type(stage).model_fields
        lines = [
            _line(2, key, value, fields[key].description if key in fields else None)
            for key, value in given.items()
            if key not in wired and _simple(value)
        ]
        if lines:
            yield f"  {name}:"
            yield from lines


def _simple(value: Any) -> bool:
    """Whether a value is a scalar or a list of scalars."""
    if isinstance(value, list):
        return all(_simple(v) and not isinstance(v, list) for v in value)
    return value is not None and not isinstance(value, dict)


def _line(depth: int, key: str, value: Any, description: str | None) -> str:
    text = yaml.safe_dump([value], default_flow_style=True, width=10_000, allow_unicode=True).strip()
    if "\n" in text:  # JSON is YAML, too, and keeps line ends on one line
        text = json.dumps([value], ensure_ascii=False)
    line = f"{'  ' * depth}{key}: {text[1:-1]}"
    sentence = (description or "").partition(". ")[0].rstrip(".")
    return f"{line:<{COLUMN}}  # {sentence}" if sentence else line

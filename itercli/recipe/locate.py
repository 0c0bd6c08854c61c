"""Where a key of a composed recipe was set: override, or file and line."""

from __future__ import annotations

from pathlib import Path

import yaml

from itercli.recipe.tree import GROUP_KEYS, OVERRIDE, ROOT_CONFIG, builtin_dir


def locate(key: str, overrides: list[str], choices: dict[str, str], dirs: list[Path]) -> str:
    """The override or `file:line` of `key`, or of the closest key above it that is written down."""
    parts = key.split(".") if key else []
    for override in reversed(overrides):
        match = OVERRIDE.match(override)
        if match and key and (key == match["key"] or key.startswith(match["key"] + ".")):
            return f"command line: {override}"
    depth, path, line = _deepest(parts, overrides, choices, dirs)
    best = (depth, f"{_short(path)}:{line}" if path else "")
    for override in reversed(overrides):
        # `loop.smaple.n=2` makes a stage that no file knows: the override is the place.
        match = OVERRIDE.match(override)
        shared = _common(parts, match["key"].split(".")) if match else 0
        if shared > best[0]:
            best = (shared, f"command line: {override}")
    return best[1]


def source(key: str, overrides: list[str], choices: dict[str, str], dirs: list[Path]) -> Path | str | None:
    """The file that sets `key`; an empty text if it is an override, None if no file says it."""
    for override in reversed(overrides):
        match = OVERRIDE.match(override)
        if match is None or not (key == match["key"] or key.startswith(match["key"] + ".")):
            continue
        if match["key"] not in GROUP_KEYS or (match["value"] or "").startswith("{"):
            return ""
    return _deepest(key.split("."), overrides, choices, dirs)[1]


def _deepest(
    parts: list[str], overrides: list[str], choices: dict[str, str], dirs: list[Path]
) -> tuple[int, Path | None, int]:
    """How many parts of the key a file has, which file, and the line of the last of them."""
    best: tuple[int, Path | None, int] = (0, None, 0)
    for path, package in _files(overrides, choices, dirs):
        inner = parts[len(package.split(".")) :] if package and parts[:1] == [package] else parts
        if package and parts[:1] != [package]:
            continue
        depth, line = _find(path, inner)
        if depth and depth + len(parts) - len(inner) > best[0]:
            best = (depth + len(parts) - len(inner), path, line)
    return best


def _common(a: list[str], b: list[str]) -> int:
    """Length of the common beginning."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _files(overrides: list[str], choices: dict[str, str], dirs: list[Path]) -> list[tuple[Path, str]]:
    """Files that took part, those that win first, with the top-level key they fill."""
    found: list[tuple[Path, str]] = []
    for group, option in choices.items():
        if group not in GROUP_KEYS:
            continue
        for directory in [*dirs, builtin_dir()]:
            path = directory / group / f"{option}.yaml"
            if path.is_file():
                found.append((path, GROUP_KEYS[group]))
                break
    found.sort(key=lambda item: item[1] != "")
    for override in overrides:
        name, _, value = override.partition("=")
        if name == "recipe" and value.endswith((".yaml", ".yml")):
            found.insert(0, (Path(value), ""))
    found.append((builtin_dir() / f"{ROOT_CONFIG}.yaml", ""))
    return found


def _find(path: Path, parts: list[str]) -> tuple[int, int]:
    """How many parts of the key path the file has, and the line of the last of them."""
    node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    depth, line = 0, 0
    for part in parts:
        if not isinstance(node, yaml.MappingNode):
            break
        for name, value in node.value:
            if name.value == part:
                node, depth, line = value, depth + 1, name.start_mark.line + 1
                break
        else:
            break
    return depth, line


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

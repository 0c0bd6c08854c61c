"""What could stand at the cursor: `iter __complete WORD...`, which the shells' scripts call.

Commands, options, names of recipes and runs come from folders and parsers and take no time.
Keys of a recipe need it composed; they are kept in a cache until a file of it changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

Candidate = tuple[str, str]  # word, help
# Arguments that commands read themselves, beside those that every recipe has.
EXTRA = {"eval": ("suite",), "tune": ("metric", "trials", "seeds")}


def complete(words: Sequence[str]) -> list[Candidate]:
    """Candidates for the last word.

    Args:
        words: What stands after `iter`; the last is the one at the cursor, perhaps empty.
    """
    from itercli.cli.main import COMMANDS

    *before, current = words or [""]
    if not before:
        found: Iterable[Candidate] = COMMANDS.items()
    elif before[0] in COMMANDS:
        found = _arguments(before[0], before[1:], current)
    else:
        found = ()
    fitting = ((word, what) for word, what in dict(found).items() if word.startswith(current))
    return [(word, " ".join(what.split())) for word, what in fitting if word.isprintable()]


def _arguments(command: str, before: list[str], current: str) -> Iterator[Candidate]:
    from itercli.cli.parser import command_parser

    parser = command_parser(command)
    options = parser._option_string_actions
    given: list[str] = []
    waiting: argparse.Action | None = None  # an option whose value comes next
    for word in before:
        action = options.get(word)
        if waiting is not None:
            waiting = None
        elif action is not None:
            waiting = action if action.nargs != 0 else None
        elif not word.startswith("-"):
            given.append(word)
    if waiting is not None:
        yield from _values(waiting, command, before, given)
    elif current.startswith("-"):
        for name, action in options.items():
            if name.startswith("--") and action.help != argparse.SUPPRESS:
                yield name, action.help or ""
    else:
        positional = [a for a in parser._actions if not a.option_strings]
        if positional:
            action = positional[min(len(given), len(positional) - 1)]
            if action is positional[-1] or len(given) < len(positional):
                yield from _values(action, command, before, given, current)


def _values(
    action: argparse.Action, command: str, before: list[str], given: list[str], current: str = ""
) -> Iterator[Candidate]:
    """Values of an option or a positional argument; nothing leaves it to the shell: a file."""
    meta = str(action.metavar or "")
    if action.choices:
        yield from ((str(c), "") for c in action.choices)
    elif command == "recipes" and action.dest in ("name", "base"):
        yield from ((name, "") for name in _options("recipe", before))
    elif command == "models" and action.dest == "name":
        yield from ((name, "") for name in _options("model", before))
    elif action.dest in ("stage", "dataset"):
        yield from (
            (name, "") for name in (_stage_kinds() if command == "schema" else _stages(before, given))
        )
    elif meta == "SWEEP" or action.dest == "sweep":
        from itercli.sweep.record import all_sweeps

        yield from ((sweep.name, "") for sweep in all_sweeps(_root(before)))
    elif action.dest == "tracker":
        yield from ((name, "") for name in _options("tracker", before))
    elif meta.startswith("RUN"):
        yield from ((name, "") for name in _runs(before))
        if command == "eval":
            yield from _overrides(command, before, given, current)
    elif "KEY=VALUE" in meta:
        yield from _overrides(command, before, given, current)
        if command == "validate":
            yield from ((name, "") for name in _options("recipe", before))


def _overrides(command: str, before: list[str], given: list[str], current: str) -> Iterator[Candidate]:
    from itercli.recipe.tree import GROUP_KEYS

    recipe = next((w.removeprefix("recipe=") for w in reversed(given) if w.startswith("recipe=")), "")
    key, equals, _ = current.partition("=")
    if equals and (key in GROUP_KEYS or key in EXTRA.get(command, ())):
        group = f"scale/{recipe}" if key == "scale" else key
        yield from ((f"{key}={name}", "") for name in _options(group, before))
        return
    known = _keys(given, before) if recipe else {}
    if equals:
        yield from ((f"{key}={value}", "") for value in known.get(key, ("", []))[1])
        return
    if "." not in current:
        taken = {w.partition("=")[0] for w in given}
        names = [g for g in (*GROUP_KEYS, *EXTRA.get(command, ())) if g not in taken]
        yield from ((f"{name}=", "") for name in names if name != "scale" or recipe)
    # One part of the key after the other, or there would be hundreds.
    depth = current.count(".")
    for name, (what, _) in known.items():
        parts = name.split(".")
        if not name.startswith(current) or len(parts) <= depth:
            continue
        if len(parts) == depth + 1:
            yield f"{name}=", what
        else:
            yield ".".join(parts[: depth + 1]) + ".", ""


def _option(before: list[str], name: str) -> list[str]:
    """Values given to an option so far."""
    after = [b for a, b in pairwise(before) if a == name]
    return after + [w.partition("=")[2] for w in before if w.startswith(f"{name}=")]


def _options(group: str, before: list[str]) -> list[str]:
    from itercli.recipe.errors import RecipeError
    from itercli.recipe.tree import options

    try:
        return list(options(group, _option(before, "--recipes")))
    except RecipeError:
        return []


def _root(before: list[str]) -> Path:
    return Path(next(iter(_option(before, "--runs")), "runs"))


def _runs(before: list[str]) -> list[str]:
    """Names of runs, newest first."""
    root = _root(before)
    return [p.parent.name for p in sorted(root.glob("*/run.json"), key=os.path.getmtime, reverse=True)]


def _stages(before: list[str], given: list[str]) -> list[str]:
    """Stages of the run that is named, or of the newest."""
    from itercli.engine.runs import find_run

    try:
        nodes = find_run(_root(before), given[0] if given else None).info.get("nodes", {})
    except LookupError:
        return []
    return list(dict.fromkeys(node.partition("/")[2] for node in nodes))


def _stage_kinds() -> list[str]:
    from itercli import registry

    return registry.names("stage")


def _keys(given: list[str], before: list[str]) -> dict[str, tuple[str, list[str]]]:
    """Keys of the recipe that is named, with the parts that were chosen; {} if it can't be composed."""
    from itercli.recipe.tree import GROUP_KEYS, builtin_dir, user_dirs

    folders = _option(before, "--recipes")
    chosen = [w for w in given if w.partition("=")[0] in GROUP_KEYS and w.partition("=")[2]]
    try:
        places = [*user_dirs(folders), builtin_dir(), Path(__file__).parents[1]]
        files = [p for place in places for p in place.rglob("*") if p.suffix in (".yaml", ".py")]
        files += [Path(w.partition("=")[2]) for w in chosen if w.endswith((".yaml", ".yml"))]
        state = [(str(p), p.stat().st_mtime_ns) for p in files]
        name = hashlib.sha256(json.dumps([os.getcwd(), chosen, state]).encode()).hexdigest()[:24]
        return _cached(name, chosen, folders)
    except Exception:  # whatever is wrong with a recipe: `iter validate` says it, Tab does not
        return {}


def _cached(name: str, chosen: list[str], folders: list[str]) -> dict[str, tuple[str, list[str]]]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "itercli" / "completion"
    path = cache / f"{name}.json"
    try:
        known: dict[str, Any] = json.loads(path.read_bytes())
        return {key: (what, values) for key, (what, values) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        pass  # not there, or damaged
    from itercli.engine.files import write_json
    from itercli.recipe.compose import compose_recipe
    from itercli.recipe.keys import override_keys

    # Plug-ins are not imported: Tab must not run a stranger's code.
    keys = override_keys(compose_recipe(chosen, folders).raw)
    for old in cache.glob("*.json"):
        old.unlink(missing_ok=True)  # a file changed since, or it is another recipe
    write_json(path, keys)
    return keys

"""Sending what a tracker does not have yet, after the run (`iter sync`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from itercli import registry
from itercli.engine.runs import Run
from itercli.errors import IterError
from itercli.recipe.errors import nearest
from itercli.recipe.fields import Trackers
from itercli.recipe.trust import inside
from itercli.report.details import config_of
from itercli.report.text import clean
from itercli.tracking.base import Tracker
from itercli.tracking.followers import spawn
from itercli.tracking.position import FOLDER, Position

_TRACKERS: TypeAdapter[Any] = TypeAdapter(Trackers)
BUSY = 3  # exit code of a follower that found another one at work


class TrackerError(IterError):
    """No such tracker, wrong options, or a package that is not installed; the message names the fix."""


def trackers_of(
    run: Run, name: str | None, options: list[str], *, trust: bool = False
) -> tuple[dict[str, Tracker], list[Path]]:
    """The trackers to send to, and the plug-ins that they may come from.

    Args:
        name: One tracker, also one that the recipe does not name; none: all of the recipe's.
        options: ``KEY=VALUE`` on top of the recipe's options.
        trust: Load plug-ins from outside this folder too.

    Raises:
        TrackerError: See there.
    """
    config = config_of(run)
    entries = [Path(run.info.get("folder", ".")) / str(p) for p in config.get("plugins") or []]
    trust = trust or inside(run.path, Path.cwd())
    plugins = [p.resolve() for p in entries if p.is_file() and (trust or inside(p, Path.cwd()))]
    for plugin in plugins:
        registry.load_plugin(plugin)
    try:
        named = _parse(config.get("tracker"))
    except TrackerError as error:
        left = ", ".join(str(p) for p in entries if p.resolve() not in plugins)
        if not left:
            raise
        raise TrackerError(
            f"{error}; not loaded: {left}, outside this folder; --trust runs its code"
        ) from error
    wanted = [name] if name else list(named)
    if not wanted:
        known = ", ".join(registry.names("tracker"))
        raise TrackerError(f"the recipe of {run.name} names no tracker; choose one with --tracker: {known}")
    changes = _changes(options)
    found: dict[str, Tracker] = {}
    for n in wanted:
        own = named[n].model_dump() if n in named else {}
        found |= _parse({n: {**own, **changes}})
    for tracker in found.values():
        if tracker.missing():
            raise TrackerError(tracker.missing())
    return found, plugins


def send(run: Run, tracker: Tracker, plugins: list[Path], *, again: bool = False) -> dict[str, Any]:
    """Send what is new; an entry of `itercli.sync/1`, see docs/json.md.

    Args:
        again: Forget what was sent before.
    """
    before = Position.load(run, tracker.NAME)
    if again:
        before.sent = {}
        before.save()
    log = run.path / FOLDER / f"{tracker.NAME}.log"
    process = spawn(run, tracker, plugins, log=log, later=True)
    assert process.stdin is not None
    process.stdin.close()
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
    after = Position.load(run, tracker.NAME)
    sent = sum(1 for id, mark in after.sent.items() if before.sent.get(id) != mark)
    error = after.error
    if code == BUSY:
        error = "a process sends to it already; wait for it"
    elif code and not error:
        error = f"its process ended with exit code {code}"
    return {
        "tracker": tracker.NAME,
        "sent": sent,
        "error": clean(error) or None,
        "note": after.note or None,
        "log": str(log),
    }


def _parse(value: Any) -> dict[str, Tracker]:
    try:
        parsed: dict[str, Tracker] = _TRACKERS.validate_python(value)
        return parsed
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        context = item.get("ctx", {})
        nested = context.get("error")
        if isinstance(nested, ValidationError):
            first = nested.errors(include_url=False)[0]
            fields = list(context["cls"].model_fields)
            key = ".".join(map(str, first["loc"]))
            near = nearest(key, fields)
            hint = f" Did you mean {near}?" if near and near != key else ""
            raise TrackerError(
                f"{item['loc'][0]}.{key}: {first['msg']}. Options: {', '.join(fields)}.{hint}"
            ) from None
        hint = f" Did you mean {context['near']}?" if context.get("near") else ""
        what = f"{item['msg']}: {context.get('found')}; there are: {context.get('allowed')}."
        raise TrackerError(what + hint) from None


def _changes(options: list[str]) -> dict[str, Any]:
    changes = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise TrackerError(f"not an option: {option!r}; write KEY=VALUE, for example mode=online")
        changes[key] = yaml.safe_load(value)
    return changes

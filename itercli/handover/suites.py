"""Suites: what a recipe's evaluation does, as a recipe of its own for any model.

A suite is a recipe without a loop under ``suite/`` in the config tree. So it is composed, checked,
run, resumed, shared and listed like any other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from itercli.engine.runs import all_runs, find_run
from itercli.handover.versions import Version, choose
from itercli.models.hub import is_hub_id
from itercli.models.known import find_known
from itercli.recipe.compose import Composed, compose_recipe
from itercli.recipe.errors import Problem, RecipeError, nearest
from itercli.recipe.schema import RecipeConfig
from itercli.recipe.tree import GROUP_KEYS, options

STAGE = "evaluate"  # every suite has a stage of this name; bare options are its own


def compose_suite(overrides: Sequence[str], recipes: Sequence[str] = ()) -> Composed:
    """Compose ``suite=NAME`` (or ``suite=FILE.yaml``) with overrides.

    A key that is no part of a recipe is an option of the stage `evaluate`: ``n=10``.

    Raises:
        RecipeError: No such suite, or a malformed override.
    """
    name = next((o.removeprefix("suite=") for o in reversed(overrides) if o.startswith("suite=")), "")
    known = options("suite", recipes)
    path = Path(name) if name.endswith((".yaml", ".yml")) else known.get(name)
    if path is None:
        what = f"no suite {name!r}" if name else "which suite?"
        near = nearest(name, known) if name else ""
        raise RecipeError([Problem("suite", what, "", ", ".join(f"suite={n}" for n in known), near)])
    given = [_for_stage(o) for o in overrides if not o.startswith("suite=")]
    return compose_recipe([f"recipe={path}", *given], recipes)


def _for_stage(override: str) -> str:
    key = override.partition("=")[0]
    plain = "=" in override and "." not in key and key.isidentifier()
    recipe_key = key in RecipeConfig.model_fields or key in GROUP_KEYS
    return override if recipe_key or not plain else f"before.{STAGE}.{override}"


def target(root: Path, text: str, recipes: Sequence[str] = ()) -> tuple[str, Version | None]:
    """The override that chooses what is evaluated, and the run's version if it is one.

    Args:
        root: Folder of runs.
        text: ``RUN``, ``RUN:ITERATION``, ``RUN:ROLE@ITERATION``, a model's folder (whole or an
            adapter), a hub id, a known name or an option of `model=`.

    Raises:
        LookupError: Neither a run nor a model.
        HandoverError: The run has no such version.
    """
    if is_model(text, recipes):
        return f"model={text}", None
    name, _, rest = text.rpartition(":") if ":" in text else (text, "", "")
    role, _, iteration = rest.rpartition("@")
    try:
        run = find_run(root, name)
    except LookupError:
        if is_hub_id(text):
            return f"model={text}", None  # perhaps it is to be fetched
        near = nearest(text, [*(r.name for r in all_runs(root)), *options("model", recipes)])
        hint = f" Did you mean {near}?" if near else ""
        raise LookupError(f"{text!r} is neither a run in {root} nor a model.{hint}") from None
    version = choose(run, role=role or None, iteration=iteration or None)
    return f"model={_spec(version)}", version


def is_model(text: str, recipes: Sequence[str] = ()) -> bool:
    """Whether a text names a model of this machine."""
    folder = Path(text).expanduser()
    files = ("config.json", "adapter_config.json")
    return bool(
        text in options("model", recipes) or find_known(text) or any((folder / f).is_file() for f in files)
    )


def _spec(version: Version) -> str:
    """A version as the value of `model=`: the files in the store."""
    found = {"path": version.ref.base, "adapter": version.ref.adapter}
    role = (version.config.get("roles") or {}).get(version.role) or {}
    if version.on_start:  # by its own name: a hub model is known by its commit
        found |= {k: role[k] for k in ("path", "revision") if role.get(k)}
    found |= {k: role[k] for k in ("trust_remote_code", "template_date") if role.get(k)}
    inside = ", ".join(f"{k}: {_text(v)}" for k, v in found.items() if v is not None)
    return f"{{{inside}}}"


def _text(value: str | bool) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False)

"""Compose a recipe with Hydra: config tree + user folders + overrides -> plain mapping.

Hydra merges and interpolates; what is allowed is decided by `itercli.recipe.schema`. So
overrides of keys are passed on as "add or change": a key that a recipe leaves at its
default can be set from the shell without a ``+``, and a misspelt one is reported by the
schema with the nearest name.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from itercli.recipe.bounds import check_interpolations, read_bounded
from itercli.recipe.errors import Problem, RecipeError, nearest, shorten
from itercli.recipe.locate import locate, source
from itercli.recipe.tree import GROUP_KEYS, OVERRIDE, ROOT_CONFIG, builtin_dir, user_dirs
from itercli.recipe.variables import Unreadable, read

INTERPOLATION = re.compile(r"\$\{(\w[\w.-]*)\}")  # of another key, whole
UNREADABLE = re.compile(rf"{Unreadable.__name__} raised while resolving interpolation: (.*)")
SCHEME = "bounded"
_extra_dirs: list[Path] = []
OmegaConf.register_new_resolver("oc.env", read, replace=True)


class _BoundedFiles(FileConfigSource):
    """Reads the YAML files of the user's folders, for Hydra, once they are found to be small enough."""

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        read_bounded(Path(self.path) / self._normalize_file_name(config_path))
        return super().load_config(config_path)


class _UserFolders(SearchPathPlugin):
    """Puts the user's folders before the shipped ones, so they can replace an option."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for path in reversed(_extra_dirs):
            search_path.prepend("itercli-user", f"{SCHEME}://{path}")


@dataclass
class Composed:
    """A composed recipe.

    Attributes:
        raw: Plain mapping, all interpolations resolved.
        written: The same before they were resolved.
        overrides: The user's overrides, as given.
        choices: Config group -> option chosen.
    """

    raw: dict[str, Any]
    overrides: list[str]
    choices: dict[str, str] = field(default_factory=dict)
    dirs: list[Path] = field(default_factory=list)
    written: dict[str, Any] = field(default_factory=dict)

    def origin(self, key: str) -> str:
        """The key that holds the value of `key`: ``data.train.limit`` for ``loop.sample.prompts.limit``."""
        parts, node = key.split("."), self.written
        for n, part in enumerate([*parts, ""]):
            if isinstance(node, str) and (source := INTERPOLATION.fullmatch(node)):
                return self.origin(".".join([source[1], *parts[n:]]))
            if not isinstance(node, dict) or part not in node:
                break
            node = node[part]
        return key

    def locate(self, key: str) -> str:
        """File and line, or the override, that set `key` (or the nearest key above it)."""
        return locate(key, self.overrides, self.choices, self.dirs)

    def source(self, key: str) -> Path | str | None:
        """The file that set `key`; an empty text if it is an override, None if no file says it."""
        return source(self.origin(key), self.overrides, self.choices, self.dirs)


def compose_recipe(overrides: Sequence[str], recipes: Sequence[str | Path] = ()) -> Composed:
    """Compose from command-line overrides, for example ``["recipe=itertl", "seed=1"]``.

    ``recipe=FILE.yaml`` takes a file anywhere; ``model=`` takes a config name, a local folder
    or a hub id; ``scale=NAME`` is an option of the recipe's own folder under ``scale/`` and is
    merged after the recipe.

    Raises:
        RecipeError: Unknown option, malformed override, failed interpolation.
    """
    dirs = user_dirs(recipes)
    with tempfile.TemporaryDirectory(prefix="itercli-recipe-") as scratch:
        given = [_recipe_file(o, Path(scratch)) for o in overrides]
        with search_path([Path(scratch), *dirs]) as search:
            recipe = next((o.removeprefix("recipe=") for o in reversed(given) if o.startswith("recipe=")), "")
            prepared = [o for g in given for o in _prepare(g, search, recipe)]
            choices: dict[str, str] = {}
            try:
                config = compose(ROOT_CONFIG, overrides=prepared, return_hydra_config=True)
                choices = {str(k): str(v) for k, v in config.hydra.runtime.choices.items()}
                with_hydra = OmegaConf.to_container(config, resolve=False)
                assert isinstance(with_hydra, dict)
                with_hydra.pop("hydra", None)
                check_interpolations(with_hydra, lambda key: locate(key, list(overrides), choices, dirs))
                raw = OmegaConf.to_container(
                    OmegaConf.create(with_hydra), resolve=True, throw_on_missing=True
                )
            except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
                key = str(getattr(error, "full_key", None) or "")
                where = locate(key, list(overrides), choices, dirs) if key and choices else ""
                raise RecipeError([_explain(error, overrides, search, where)]) from error
    assert isinstance(raw, dict)
    written = {str(k): v for k, v in with_hydra.items()}
    return Composed({str(k): v for k, v in raw.items()}, list(overrides), choices, dirs, written)


@contextmanager
def search_path(dirs: list[Path]) -> Iterator[Callable[[str], list[str]]]:
    """Hydra with our folders; yields a function that lists a group's options."""
    global _extra_dirs
    plugins = Plugins.instance()
    if _UserFolders not in plugins.discover(SearchPathPlugin):
        plugins.register(_UserFolders)
        plugins.register(_BoundedFiles)
    _extra_dirs, previous = dirs, _extra_dirs
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(builtin_dir()), version_base="1.3", job_name="iter"):
            loader = GlobalHydra.instance().config_loader()
            yield lambda group: loader.get_group_options(group)
    finally:
        _extra_dirs = previous
        GlobalHydra.instance().clear()


def _recipe_file(override: str, scratch: Path) -> str:
    """`recipe=path/to/own.yaml` -> a group option made for this call."""
    key, _, value = override.partition("=")
    if key != "recipe" or not value.endswith((".yaml", ".yml")):
        return override
    path = Path(value)
    if not path.is_file():
        raise RecipeError([Problem("recipe", f"no such file: {value}", where=f"command line: {override}")])
    load_yaml(path)  # what is wrong is reported with the user's path, not the copy's
    (scratch / "recipe").mkdir(exist_ok=True)
    (scratch / "recipe" / f"{path.stem}.yaml").write_text(path.read_text())
    return f"recipe={path.stem}"


def _prepare(override: str, search: Callable[[str], list[str]], recipe: str) -> list[str]:
    """Make one override what Hydra needs (see the module's docstring)."""
    match = OVERRIDE.match(override)
    if match is None or (match["value"] is None and match["prefix"] != "~"):
        allowed = "KEY=VALUE, for example loop.sample.n=8"
        file = override.endswith((".yaml", ".yml"))
        near = override if file else nearest(override, search("recipe"))
        hint = f"recipe={near}" if near and not recipe else ""
        raise RecipeError([Problem("", f"not an override: {override!r}", allowed=allowed, nearest=hint)])
    key, value, prefix = match["key"], match["value"], match["prefix"]
    if prefix:
        return [override]
    if key == "scale":
        known = search(f"scale/{recipe}")
        if value not in known:
            what = f"no scale of this name for recipe {recipe}"
            where = f"command line: {override}"
            raise RecipeError(
                [Problem("scale", what, value, ", ".join(known) or "none", nearest(value, known), where)]
            )
        return [f"+scale={recipe}/{value}"]
    if key == "model" and value.startswith("{"):
        return ["model=custom", f"++{override}"]
    if key == "model" and value not in search("model"):
        return ["model=custom", f"++model.path={_quote(value)}"]
    if key in GROUP_KEYS and not value.startswith("{"):
        if value.isdigit():  # an option by syntax, but Hydra takes it for a number and breaks
            raise RecipeError([_no_option(key, value, search(key), f"command line: {override}")])
        return [override]
    if value.startswith("{") and key not in GROUP_KEYS:
        # A mapping replaces what was there: merging the options of one component into those
        # of another never makes sense. Setting null first makes Hydra forget the old one (for a
        # group it would be a choice; those hold little but a name).
        return [f"++{key}=null", f"++{override}"]
    return [f"++{override}"]


def _no_option(group: str, option: str, known: Sequence[str], where: str) -> Problem:
    return Problem(group, f"no {group} of this name", option, ", ".join(known), nearest(option, known), where)


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return value if re.fullmatch(r"'.*'|\".*\"", value) else f"'{escaped}'"


def _explain(
    error: Exception, overrides: Sequence[str], search: Callable[[str], list[str]], where: str
) -> Problem:
    """Hydra's exception as a located problem; `where` is the place if it is known already."""
    text = str(error)
    if variable := UNREADABLE.search(text):
        return Problem(str(getattr(error, "full_key", None) or ""), variable[1], where=where)
    if isinstance(error, MissingConfigException):
        missing = error.missing_cfg_file or ""
        group, _, option = missing.partition("/")
        if group in GROUP_KEYS and option:
            known = search(group)
            where = next((f"command line: {o}" for o in overrides if o.startswith(f"{group}=")), "")
            return _no_option(group, option, known, where)
    if "You must specify 'recipe'" in text:
        return Problem("recipe", "which recipe?", "", "recipe=" + ", ".join(search("recipe")))
    launcher = next((o for o in overrides if o.startswith(("hydra/", "hydra."))), "")
    if launcher:
        key = launcher.partition("=")[0]
        return Problem(key, "belongs to sweeps", "", "with `iter run -m`", "", f"command line: {launcher}")
    several = next((o for o in overrides if "Ambiguous value" in text and f"{o}'" in text), "")
    if several:
        key, _, value = several.partition("=")
        fix = f"`iter run -m` for a run of each, '{key}=[{value}]' for a list, or quotes for a text"
        return Problem(key, "several values", value, fix, "", f"command line: {several}")
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.removeprefix("++").partition("=")
        given = next((o for o in overrides if o.partition("=")[0].lstrip("+~") == key), error.override)
        what = "a value that the shell's or Hydra's syntax cuts apart (one of = , : [ ] { } ' \" or a space)"
        fix = f"quotes inside quotes: '{key}=\"{value}\"'"
        return Problem(key, what, value, fix, "", f"command line: {given}")
    cause = error.__cause__
    detail = f"{text} ({cause})" if isinstance(error, ConfigCompositionException) and cause else text
    culprit = next((o for o in overrides if o in detail or o.partition("=")[0] in detail), "")
    key = getattr(error, "full_key", None) or (culprit.partition("=")[0] if culprit else "")
    first = detail.strip().splitlines()
    return Problem(
        str(key or ""),
        " ".join(line.strip() for line in first[:3]),
        where=where or (f"command line: {shorten(culprit)[1:-1]}" if culprit else ""),
    )


def load_yaml(path: Path) -> Any:
    """Read a YAML file of bounded size, with its path in the error."""
    try:
        return yaml.safe_load(read_bounded(path))
    except yaml.YAMLError as error:
        raise RecipeError([Problem("", f"not valid YAML: {error}", where=str(path))]) from error

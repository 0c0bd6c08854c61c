"""Registry of components: stages, samplers, scorers, selectors, methods, sources.

A component is a pydantic class: its fields are its options in YAML, its methods do the
work. It registers under (group, name), built-in modules by being listed here, other
packages through the entry point group ``itercli.plugins``, a user's own files through
``plugins:`` in the recipe. Component modules import nothing heavy at the top: planning
reads them, only workers run them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from itercli import plugins
from itercli.resources import Auto, Resources

GROUPS = ("stage", "source", "sampler", "scorer", "selector", "method", "environment", "tracker")

# Modules that register the built-in components; importing one must stay cheap.
BUILTIN = (
    "itercli.stages.prompts",
    "itercli.stages.slice",
    "itercli.stages.preferences",
    "itercli.stages.prefer",
    "itercli.stages.sample",
    "itercli.stages.rollout",
    "itercli.stages.episodes",
    "itercli.stages.score",
    "itercli.stages.select",
    "itercli.stages.references",
    "itercli.stages.pair",
    "itercli.stages.train",
    "itercli.stages.evaluate",
    "itercli.stages.ceiling",
    "itercli.stages.measure",
    "itercli.stages.judge",
    "itercli.stages.judge_pairs",
    "itercli.stages.likelihood",
    "itercli.stages.reward",
    "itercli.stages.estimate",
    "itercli.stages.win_rate",
    "itercli.stages.divergence",
    "itercli.stages.lm_eval",
    "itercli.search.mcts",
    "itercli.sampling.specs",
    "itercli.training.methods",
    "itercli.training.dialogue",
    "itercli.training.classifiers",
    "itercli.training.preference",
    "itercli.environments.textcraft",
    "itercli.environments.scienceworld",
    "itercli.environments.textworld",
    "itercli.environments.agentgym",
    "itercli.verifiers.verilog",
    "itercli.verifiers.text_scorers",
    "itercli.verifiers.sentiment",
    "itercli.data.sources",
    "itercli.data.tables",
    "itercli.data.several",
    "itercli.data.rtl_tasks",
    "itercli.data.verilogeval",
    "itercli.data.rtllm",
    "itercli.data.rtlcoder",
    "itercli.data.instructions",
    "itercli.data.stories",
    "itercli.data.longgen",
    "itercli.data.longbench_write",
    "itercli.data.textcraft",
    "itercli.data.scienceworld",
    "itercli.data.textworld",
    "itercli.data.agentgym",
    "itercli.tracking.wandb",
    "itercli.tracking.tensorboard",
    "itercli.tracking.trackio",
    "itercli.tracking.mlflow",
    "itercli.papers.itertl",
    "itercli.papers.self_lengthen.propose",
    "itercli.papers.self_lengthen.respond",
    "itercli.papers.self_lengthen.extend",
    "itercli.papers.self_lengthen.length_bias",
    "itercli.papers.self_lengthen.pairs",
    "itercli.papers.self_lengthen.limits",
    "itercli.papers.upo.choose",
    "itercli.papers.upo.noise",
    "itercli.papers.agent_r.judge",
    "itercli.papers.agent_r.revise",
    "itercli.papers.agent_r.mix",
    "itercli.papers.agent_r.recovery",
)


def how(default: Any = ..., **kwargs: Any) -> Any:
    """A pydantic field that changes how a stage runs, not what it produces.

    Such fields (devices, batch sizes, workers) are left out of stage keys.
    """
    return Field(default, json_schema_extra={"how": True}, **kwargs)


class Component(BaseModel):
    """Base of everything that a recipe can name.

    Class attributes:
        NAME: Name in recipes, set by `register`.
        VERSION: Raise it when the same options start to give different results: it is
            part of the stage key, so artifacts of the old code are not reused.
        SANDBOXED: It runs programs in the sandbox, so a plan checks that there is one.
        NEEDS: Fields of rows that it can't do without: ``Prompt.reference``, ``Prompt.meta.bench``,
            ``Score.passed``. Plans look whether the data have them.
        NEEDS_EVERY: Whether each row must have them; False: it leaves out rows that don't, so
            at least one must.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    NAME: ClassVar[str] = ""
    GROUP: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    SANDBOXED: ClassVar[bool] = False
    NEEDS: ClassVar[tuple[str, ...]] = ()
    NEEDS_EVERY: ClassVar[bool] = True
    SOURCE_DIGEST: ClassVar[str | None] = None

    def needs(self) -> tuple[str, ...]:
        """`NEEDS` under these options."""
        return self.NEEDS

    def objection(self, prompt: Any) -> str:
        """Why it can't work on this `Prompt`, for what `NEEDS` can't say; empty: it can."""
        return ""

    def parts(self) -> Iterator[tuple[str, Component]]:
        """Option -> component that it names."""
        for field in type(self).model_fields:
            value = getattr(self, field)
            for one in value if isinstance(value, tuple | list) else (value,):
                if isinstance(one, Component):
                    yield field, one

    def resolved(self, resources: Resources) -> Self:
        """The same with every `auto` settled that a machine decides, nested components included.

        Stage keys are made of it, and it is what runs. Options whose annotation carries `Auto`
        are settled by that.

        Args:
            resources: Those of the machine that runs the stages.
        """
        changes = {}
        for field, info in type(self).model_fields.items():
            value = settled = getattr(self, field)
            for mark in info.metadata:
                if isinstance(mark, Auto):
                    settled = mark.settle(settled, resources)
            settled = _resolved(settled, resources)
            if settled is not value:
                changes[field] = settled
        return self.model_copy(update=changes) if changes else self

    def key_params(self) -> dict[str, Any]:
        """The options that change the result, nested components included."""
        params: dict[str, Any] = {"name": self.NAME, "version": self.VERSION}
        if self.SOURCE_DIGEST:
            params["code"] = self.SOURCE_DIGEST
        for field, info in type(self).model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and extra.get("how"):
                continue
            value = getattr(self, field)
            params[field] = _key_value(value)
        return params


def _resolved(value: Any, resources: Resources) -> Any:
    """A value with the components in it resolved; the same object if there is nothing to resolve."""
    if isinstance(value, Component):
        return value.resolved(resources)
    if isinstance(value, dict):
        settled = {k: _resolved(v, resources) for k, v in value.items()}
        return settled if any(settled[k] is not v for k, v in value.items()) else value
    if isinstance(value, list | tuple):
        items = [_resolved(v, resources) for v in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _key_value(value: Any) -> Any:
    if isinstance(value, Component):
        return value.key_params()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(k): _key_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_key_value(v) for v in value]
    return value


def _origin(cls: type) -> tuple[str, str]:
    """Where a class is defined; an edited plug-in that is loaded again is the same place."""
    module = cls.__module__
    return (module.rpartition("_")[0] if module.startswith(plugins.PREFIX) else module, cls.__qualname__)


C = TypeVar("C", bound=type[Component])
_components: dict[tuple[str, str], type[Component]] = {}
_by_module: dict[str, dict[tuple[str, str], type[Component]]] = {}


def register(group: str, name: str) -> Callable[[C], C]:
    """Class decorator: makes a component known under `name`.

    Raises:
        ValueError: Unknown group, or the name is taken by another class.
    """
    if group not in GROUPS:
        raise ValueError(f"unknown component group {group!r}; one of {', '.join(GROUPS)}")

    def decorate(cls: C) -> C:
        known = _components.get((group, name))
        if known is not None and _origin(known) != _origin(cls):
            raise ValueError(
                f"{group} {name!r} is already registered by {known.__module__}.{known.__qualname__}"
            )
        cls.NAME, cls.GROUP = name, group
        _components[group, name] = cls
        _by_module.setdefault(cls.__module__, {})[group, name] = cls
        return cls

    return decorate


@cache
def load_builtin() -> None:
    """Import the built-in components and those of installed plug-in packages.

    The source of such a package becomes part of the keys of every stage that uses it.
    """
    from importlib.metadata import entry_points

    for module in BUILTIN:
        importlib.import_module(module)
    for entry in entry_points(group="itercli.plugins"):
        before = {name: set(found) for name, found in _by_module.items()}
        entry.load()
        code = plugins.package_digest(entry.module)
        for module, classes in _by_module.items():
            for key in classes.keys() - before.get(module, set()):
                classes[key].SOURCE_DIGEST = code


def load_plugin(path: Path, expected: plugins.Code | None = None) -> plugins.Code:
    """Import a user's Python file so that the components in it register.

    The hash of the file and of the user's modules that it imports becomes part of the keys of every
    stage that uses them.

    Args:
        expected: What it was when the run was planned; another content is refused.

    Raises:
        Changed: It has another content.
    """
    load_builtin()
    code, name = plugins.load(path, expected)
    for module in (*code.modules, name):
        classes = _by_module.get(module, {})
        for cls in classes.values():
            cls.SOURCE_DIGEST = code.digest
        _components.update(classes)  # also where it was loaded before, and another content since
    return code


def names(group: str) -> list[str]:
    """All registered names of a group, sorted."""
    load_builtin()
    return sorted(n for g, n in _components if g == group)


def find(group: str, name: str) -> type[Component] | None:
    """The component class, or None."""
    load_builtin()
    return _components.get((group, name))

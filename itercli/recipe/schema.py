"""The contract of a recipe, on top of what Hydra composed.

`check` turns a resolved mapping into a `Recipe`, or raises one `RecipeError` with every
problem found. No heavy module is imported for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from itercli import registry
from itercli.models import ModelSpec
from itercli.plugins import Code, clash
from itercli.recipe.errors import Problem, RecipeError, nearest, shorten
from itercli.recipe.fields import NESTED, UNKNOWN, Trackers
from itercli.recipe.schedule import at_iteration
from itercli.sampling.base import SamplerSpec
from itercli.stages.base import Stage
from itercli.tune.spec import TuneSpec

Scope = Literal["before", "loop", "after"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
RESERVED = ("previous", "all", "before")  # what a reference to a stage can begin with
STAGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
Locate = Callable[[str], str]
# How problems begin that a plug-in could solve which was not imported.
NO_COMPONENT = (*(f"unknown {group}" for group in registry.GROUPS), "no tracker of this name")


class StopRule(BaseModel):
    """End the loop early when a metric stops improving."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str = Field(description="An `evaluate` stage of the loop.")
    metric: str = Field(description="One of its metrics.")
    patience: int = Field(1, ge=1, description="Iterations without a new best before the loop ends.")
    min_delta: float = Field(0.0, ge=0, description="A smaller gain does not count as improvement.")


class ExecutorSpec(BaseModel):
    """How stages are run; nothing here changes a result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["local"] = "local"
    python: dict[Literal["sample", "score", "train"], str] = Field(
        default_factory=dict, description="Another interpreter for a kind of worker."
    )
    colocate: Literal["auto", "keep", "exit"] = Field(
        "auto",
        description="Sampling beside training: at the same time (keep), or one after the other with the "
        "other worker ended (exit). auto is exit where there is one GPU, and keep where there are more; "
        "without one they take turns and no worker is ended.",
    )
    sandbox: Literal["auto", "isolated", "namespaces", "bubblewrap"] = Field(
        "auto",
        description="What programs under test must be shut in with, else the run is refused: isolated is "
        "namespaces or bubblewrap. auto takes the first that works of namespaces, bubblewrap and limits, "
        "and the run says if it was the last. ITER_SANDBOX comes first.",
    )
    hang_seconds: float = Field(900.0, gt=0, description="A worker silent for so long is killed.")
    retries: int = Field(0, ge=0, description="Fresh workers to try a stage with after one died.")


class RecipeConfig(BaseModel):
    """Top level of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Used in run names.")
    description: str = ""
    paper: str = ""
    seed: int = Field(0, ge=0)
    iterations: int = Field(1, ge=0)
    model: ModelSpec
    data: dict[str, Any] = Field(default_factory=dict, description="Sources, for interpolation in stages.")
    sampler: dict[str, Any] = Field(default_factory=lambda: {"name": "auto"})
    training: dict[str, Any] = Field(default_factory=dict)
    executor: ExecutorSpec = ExecutorSpec()
    tracker: Trackers = Field(
        default_factory=dict, description="Where metrics are sent besides metrics.jsonl: name -> options."
    )
    plugins: tuple[str, ...] = ()
    roles: dict[str, ModelSpec] = Field(min_length=1)
    stop: StopRule | None = None
    tune: TuneSpec | None = Field(None, description="What `iter tune` varies; no part of a run.")
    headline: str | None = Field(None, description="STAGE.METRIC that the closing table leads with.")
    before: dict[str, dict[str, Any]] = Field(default_factory=dict)
    loop: dict[str, dict[str, Any]] = Field(default_factory=dict)
    after: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A checked recipe: its settings, its stages as objects, and the mapping they came from.

    Attributes:
        stages: For each scope the stages in order, children expanded before their parent.
        raw: The resolved mapping; a worker rebuilds a stage from it.
        later: Stages of the loop whose options change by iteration: iteration from 2 -> name ->
            (mapping, stage); in `stages` they are as in the first.
        schedules: Dotted key of each list by iteration -> how many values it has.
        code: The plug-ins, as they were when they were loaded.
    """

    config: RecipeConfig
    stages: dict[Scope, dict[str, Stage]]
    raw_stages: dict[Scope, dict[str, dict[str, Any]]]
    raw: dict[str, Any]
    code: tuple[Code, ...] = ()
    locate: Locate = field(default=lambda key: "", compare=False)
    later: dict[int, dict[str, tuple[dict[str, Any], Stage]]] = field(default_factory=dict)
    schedules: dict[str, int] = field(default_factory=dict)

    def stage_at(self, scope: Scope, name: str, iteration: int) -> tuple[dict[str, Any], Stage]:
        """A stage's mapping and the stage as it is in an iteration."""
        own = self.later.get(iteration, {}) if scope == "loop" else {}
        return own.get(name) or (self.raw_stages[scope][name], self.stages[scope][name])

    @property
    def plugins(self) -> tuple[Path, ...]:
        """Files of the plug-ins."""
        return tuple(code.path for code in self.code)


def parse_stage(raw: dict[str, Any]) -> Stage:
    """Build a stage from its mapping.

    Raises:
        pydantic.ValidationError: Wrong options.
        KeyError: Unknown `uses`.
    """
    cls = registry.find("stage", str(raw.get("uses")))
    if cls is None:
        raise KeyError(raw.get("uses"))
    return cls.model_validate(raw)  # type: ignore[return-value]


def check(
    raw: dict[str, Any],
    *,
    base: Path,
    locate: Locate = lambda key: "",
    origin: Callable[[str], str] = lambda key: key,
    refused: Sequence[Problem] = (),
) -> Recipe:
    """Check a composed mapping completely.

    Args:
        raw: Resolved mapping (no interpolations left).
        base: Folder that relative `plugins:` paths start from.
        locate: Gives file and line of a key, for the report.
        origin: Gives the key that a key's value was interpolated from, for the report.
        refused: What `itercli.recipe.trust` objects to; plug-ins among it are not loaded.

    Raises:
        RecipeError: With all problems found.
    """
    problems: list[Problem] = list(refused)
    untrusted = {p.key for p in refused}
    name = str(raw.get("name", ""))
    # A derived recipe drops a stage, or all of a scope, by setting it to null.
    raw = {
        **raw,
        **{
            s: {n: e for n, e in (raw[s] or {}).items() if e is not None}
            for s in SCOPES
            if isinstance(raw.get(s, ""), dict | None)
        },
    }
    code: list[Code] = []
    for n, entry in enumerate(raw.get("plugins") or []):
        if f"plugins.{n}" in untrusted:
            continue
        path = (base / str(entry)).resolve()
        try:
            code.append(registry.load_plugin(path))
            if what := clash(code):
                problems.append(Problem(f"plugins.{n}", what, found=str(entry)))
        except Exception as error:  # a user's file may raise anything on import
            what = f"can't be imported: {type(error).__name__}: {error}; its components were not checked"
            problems.append(Problem(f"plugins.{n}", what, found=str(entry)))
    broken = len(code) < len(raw.get("plugins") or [])
    withheld = any(key.startswith("plugins.") for key in untrusted)
    config = _config(raw, problems)

    stages: dict[Scope, dict[str, Stage]] = {scope: {} for scope in SCOPES}
    raw_stages: dict[Scope, dict[str, dict[str, Any]]] = {scope: {} for scope in SCOPES}
    iterations = config.iterations if config is not None else 1
    later: dict[int, dict[str, tuple[dict[str, Any], Stage]]] = {n: {} for n in range(2, iterations + 1)}
    schedules: dict[str, int] = {}
    for scope in SCOPES:
        entries = raw.get(scope) or {}
        if not isinstance(entries, dict):
            continue
        for stage_name, entry in entries.items():
            if not STAGE_NAME.fullmatch(str(stage_name)):  # it is a folder's name and part of key paths
                problems.append(
                    Problem(scope, "not a stage name", shorten(stage_name), "letters, digits, _, -")
                )
            found: dict[str, int] = {}
            first = {"before": 0, "loop": 1, "after": iterations}[scope]
            for child, mapping, stage in _expand(scope, str(stage_name), entry, raw, problems, first, found):
                stages[scope][child] = stage
                raw_stages[scope][child] = mapping
            for n in later if scope == "loop" and found else ():
                wrong: list[Problem] = []
                for child, mapping, stage in _expand(scope, str(stage_name), entry, raw, wrong, n, found):
                    later[n][child] = (mapping, stage)
                problems.extend(p for p in wrong if p not in problems)
            schedules |= found
    if config is not None:
        problems.extend(_tracker_problems(config))
        problems.extend(_role_problems(config, stages))
        problems.extend(_model_problems(config, stages))
        problems.extend(_reserved(stages))
    if broken:  # what has no like here may well be in the plug-in
        problems = [
            p for p in problems if (p.nearest and not withheld) or not p.what.startswith(NO_COMPONENT)
        ]
    if problems:
        located = [
            p
            if p.where
            else Problem(key := origin(p.key), p.what, p.found, p.allowed, p.nearest, locate(key))
            for p in problems
        ]
        raise RecipeError(dict.fromkeys(located), name)
    assert config is not None
    return Recipe(config, stages, raw_stages, raw, tuple(code), locate, later, schedules)


def _config(raw: dict[str, Any], problems: list[Problem]) -> RecipeConfig | None:
    """The top level, as far as it is right: a wrong key must not keep the rest from being checked."""
    known = list(RecipeConfig.model_fields)
    for key, value in raw.items():
        if key not in known:
            problems.append(
                Problem(key, "unknown key", shorten(value), ", ".join(known), nearest(key, known))
            )
    right = {key: value for key, value in raw.items() if key in known}
    try:
        return RecipeConfig.model_validate(right)
    except ValidationError as error:
        problems.extend(_problems(error, RecipeConfig, ""))
        wrong = {str(item["loc"][0]) for item in error.errors(include_url=False) if item["loc"]}
    try:
        return RecipeConfig.model_validate({k: v for k, v in right.items() if k not in wrong})
    except ValidationError:  # it can't do without them
        return None


def _expand(
    scope: Scope,
    name: str,
    entry: Any,
    raw: dict[str, Any],
    problems: list[Problem],
    iteration: int,
    schedules: dict[str, int],
) -> Iterator[tuple[str, dict[str, Any], Stage]]:
    """A stage as it is in an iteration, with its children before it; children may have children.

    Args:
        schedules: Gets the keys of options by iteration, and how many values each has.
    """
    key = f"{scope}.{name}"
    if not isinstance(entry, dict):
        problems.append(Problem(key, "a stage is a mapping", shorten(entry), "{uses: STAGE, ...}"))
        return
    uses = entry.get("uses")
    cls = registry.find("stage", str(uses))
    if cls is None:
        known = registry.names("stage")
        what = "unknown stage kind" if uses is not None else "`uses` is missing"
        near = nearest(str(uses), known)
        if uses is None:  # an override with a misspelt stage name makes a stage without `uses`
            others = [
                str(n) for n, e in (raw.get(scope) or {}).items() if isinstance(e, dict) and "uses" in e
            ]
            near = f"stage {n}" if (n := nearest(name, others)) else ""
        problems.append(Problem(f"{key}.uses", what, shorten(uses), ", ".join(known), near))
        return
    assert issubclass(cls, Stage)
    mapping = dict(entry)
    for default in cls.DEFAULTS:
        if mapping.get(default) is None:
            mapping[default] = raw.get(default) or {}
    counts: dict[str, int] = {}
    mapping = at_iteration(cls, mapping, iteration, counts)
    for option, values in counts.items():
        own = entry.get(option.partition(".")[0]) is not None  # else it is the recipe's, for all stages
        schedules[f"{scope}.{name.partition('.')[0]}.{option}" if own else option] = values
    try:
        stage = cls.model_validate(mapping)
    except ValidationError as error:
        found = list(_problems(error, cls, key))
        # A recipe-wide default that is wrong is reported where it is written.
        for p in found:
            head = p.key.removeprefix(f"{key}.").split(".")[0]
            if head in cls.DEFAULTS and entry.get(head) is None:
                p = Problem(p.key.removeprefix(f"{key}."), p.what, p.found, p.allowed, p.nearest)
            if p not in problems:
                problems.append(p)
        return
    for k, what, allowed, *close in stage.check():
        problems.append(Problem(f"{key}.{k}", what, "", allowed, *close))
    for child, child_entry in stage.children(name).items():
        before = len(problems)
        yield from _expand(scope, f"{name}.{child}", child_entry, raw, problems, iteration, schedules)
        # Options of a child come from its parent: point there.
        for i in range(before, len(problems)):
            p = problems[i]
            option, _, rest = p.key.removeprefix(f"{scope}.{name}.{child}.").partition(".")
            if option not in cls.model_fields and child in cls.model_fields:
                option = child  # `prompts: SOURCE` is the option `source` of the child `prompts`
            moved = ".".join(filter(None, [key, option, rest]))
            problems[i] = Problem(moved, p.what, p.found, p.allowed, p.nearest)
    yield name, mapping, stage


def _tracker_problems(config: RecipeConfig) -> Iterator[Problem]:
    for name, tracker in config.tracker.items():
        if tracker.missing():
            yield Problem(f"tracker.{name}", "its package is not installed", name, tracker.missing())


def _role_problems(config: RecipeConfig, stages: dict[Scope, dict[str, Stage]]) -> Iterator[Problem]:
    for scope, entries in stages.items():
        for name, stage in entries.items():
            for link in stage.model_links():
                if link.role not in config.roles and "." not in name:
                    yield Problem(
                        f"{scope}.{name}.{link.key}",
                        "no such role",
                        shorten(link.role),
                        ", ".join(config.roles),
                        nearest(link.role, config.roles),
                    )


def _model_problems(config: RecipeConfig, stages: dict[Scope, dict[str, Stage]]) -> Iterator[Problem]:
    """Roles that a stage may not train, judge with, or can't draw from."""
    # Options of children come from their parent, so that is where to look.
    every = [(f"{s}.{n.split('.')[0]}", stage) for s, group in stages.items() for n, stage in group.items()]
    trained = {role: key for key, stage in every if (role := stage.trains())}
    served = {role: spec.served for role, spec in config.roles.items()}
    for role, key in trained.items():
        if served.get(role):
            local = ", ".join(r for r, name in served.items() if not name)
            yield Problem(f"{key}.role", "a model behind a server can't be trained here", role, local)
    for key, stage in every:
        links = {link.role: link for link in stage.model_links() if link.role in served}
        sampler = getattr(stage, "sampler", None)
        for role, link in links.items():
            if link.untrained and role in trained:
                others = ", ".join(r for r in served if r not in trained)
                yield Problem(
                    f"{key}.{link.key}",
                    f"{trained[role]} trains this role, and a judge must stay the same",
                    role,
                    others or "a role that no stage trains, for example `judge: ${model}` under `roles:`",
                )
            if isinstance(sampler, SamplerSpec) and (misfit := sampler.resolve().misfit(served[role])):
                yield Problem(f"{key}.sampler", f"role {role}: {misfit[0]}", "", misfit[1])


def _reserved(stages: dict[Scope, dict[str, Stage]]) -> Iterator[Problem]:
    for scope, entries in stages.items():
        for name in entries:
            if name.split(".")[0] in RESERVED:
                words = ", ".join(f"`{word}`" for word in RESERVED)
                yield Problem(f"{scope}.{name}", f"{words} are reserved words", name, "another name")


def _problems(error: ValidationError, cls: type[BaseModel], prefix: str) -> Iterator[Problem]:
    """Translate pydantic's errors, nested components included."""
    for item in error.errors(include_url=False):
        ctx = item.get("ctx", {})
        loc = [str(part) for part in item["loc"]]
        key = ".".join([p for p in [prefix] if p] + loc)
        kind = item["type"]
        if kind == NESTED:
            yield from _problems(ctx["error"], ctx["cls"], key)
        elif kind == UNKNOWN:
            at = f".{ctx['at']}" if ctx.get("at") and isinstance(item.get("input"), dict) else ""
            yield Problem(key + at, item["msg"], ctx["found"], ctx["allowed"], ctx["near"])
        elif kind == "extra_forbidden":
            names = _field_names(cls, loc[:-1])
            yield Problem(
                key, "unknown key", shorten(item["input"]), ", ".join(names), nearest(loc[-1], names)
            )
        elif kind == "missing":
            yield Problem(key, "missing", "", _describe(cls, loc))
        else:
            message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            message = message.replace("a valid dictionary", "a mapping").replace("a valid list", "a list")
            allowed = ctx.get("expected") or message
            found = item.get("input")
            near = nearest(str(found), str(allowed).replace("'", "").replace(" or ", ", ").split(", "))
            yield Problem(
                key, "wrong value", shorten(found), str(allowed), near if isinstance(found, str) else ""
            )


def _model_at(cls: type[BaseModel], loc: list[str]) -> type[BaseModel] | None:
    """The pydantic class that the path leads to, through nested models and mappings."""
    current: Any = cls
    for part in loc:
        if get_origin(current) is dict:  # the part is a key of the mapping
            current = get_args(current)[1]
        elif isinstance(current, type) and issubclass(current, BaseModel):
            info = current.model_fields.get(part)
            current = info.annotation if info else None
        for candidate in () if get_origin(current) is dict else get_args(current):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                current = candidate
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _field_names(cls: type[BaseModel], loc: list[str]) -> list[str]:
    model = _model_at(cls, loc)
    return list(model.model_fields) if model else []


def _describe(cls: type[BaseModel], loc: list[str]) -> str:
    model = _model_at(cls, loc[:-1])
    info = model.model_fields.get(loc[-1]) if model else None
    if info is None:
        return ""
    values = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    return " | ".join(map(str, values)) or info.description or str(getattr(info.annotation, "__name__", ""))

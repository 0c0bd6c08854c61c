"""The parts that recipes are made of: components by kind, metrics and the records between stages.

One description for `iter parts`, `iter schema --stage` and the recipes' pages: classes, their
fields and docstrings. Nothing heavy is imported for it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from itercli import records, registry
from itercli.recipe.compose import load_yaml
from itercli.recipe.json_schema import type_name
from itercli.recipe.tree import builtin_dir
from itercli.stages.base import Stage
from itercli.verifiers.base import Scorer

METRIC, RECORD = "metric", "record"
# In the order in which a recipe meets them.
COMPONENTS = ("stage", "source", "environment", "sampler", "scorer", "selector", "method", "tracker")
KINDS = (*COMPONENTS, METRIC, RECORD)
ABOUT = {
    "stage": "a step of the loop; `uses: NAME`",
    "source": "prompts or rows from files; under `data:`, or as a stage's `source:`",
    "environment": "a world that a policy acts in; `environment: NAME`",
    "sampler": "an engine that samples completions; `sampler: NAME`",
    "scorer": "judges each completion; `scorer: NAME`",
    "selector": "makes training examples of scored completions; `selector: NAME`",
    "method": "a training objective; `method: NAME`",
    METRIC: "a number that `evaluate` and `measure` report; `metrics: [NAME, ...]`",
    "tracker": "a service that metrics are sent to; `tracker: NAME`",
    RECORD: "a row that stages hand on, and its fields",
}
GENERAL_METRICS = {
    "pass@K": (
        "Probability that one of K completions passes, unbiased (Chen et al. 2021, section 2.1); "
        "K goes up to the stage's `n`.",
        ("Score.passed",),
    ),
    "mean_score": ("Mean of the scorer's values.", ("Score.value",)),
}


@dataclass(frozen=True)
class Option:
    """An option of a component, or a field of a record.

    Attributes:
        default: None where `required`, and where it is null.
        how: It changes how a stage runs, not what it makes.
    """

    key: str
    type: str
    required: bool
    default: Any
    help: str
    how: bool


@dataclass(frozen=True)
class Part:
    """A part of recipes.

    Attributes:
        summary: First sentence of the description.
        reads: Fields of rows that it cannot do without, for example ``Score.passed``.
        example: YAML as it stands in a recipe; empty for records.
    """

    kind: str
    name: str
    summary: str
    description: str
    reads: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    example: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return asdict(self)


def names(kind: str) -> list[str]:
    """Names of all parts of a kind, sorted; records in the order of their module."""
    if kind == METRIC:
        return [*GENERAL_METRICS, *sorted(_measures().keys() | _stage_metrics().keys())]
    return list(_records()) if kind == RECORD else registry.names(kind)


def part(kind: str, name: str) -> Part:
    """One part.

    Raises:
        KeyError: There is none of this kind and name.
    """
    if kind == METRIC:
        return _metric(name)
    cls: type[BaseModel] | None = _records().get(name) if kind == RECORD else registry.find(kind, name)
    if cls is None:
        raise KeyError(name)
    reads = tuple(getattr(cls, "NEEDS", ()))
    example = "" if kind == RECORD else _example(kind, name, cls)
    return Part(kind, name, sentence(cls), prose(cls), reads, tuple(options(cls)), example)


def options(cls: type[BaseModel]) -> Iterator[Option]:
    """Options of a component, or fields of a record, in their order."""
    schema, texts = cls.model_json_schema(), attributes(cls)
    given = cls.DEFAULTS if issubclass(cls, Stage) else ()  # by the recipe
    for key, option in schema.get("properties", {}).items():
        if key == "uses":
            continue
        required = key in schema.get("required", ()) and key not in given
        text = option.get("description") or texts.get(key, "")
        yield Option(key, type_name(option), required, option.get("default"), text, bool(option.get("how")))


def attributes(cls: type) -> dict[str, str]:
    """Name -> text of the `Attributes:` section of a Google-style docstring."""
    _, _, section = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


def prose(cls: type) -> str:
    """A docstring without its sections of fields, which the options repeat."""
    text = inspect.getdoc(cls) or ""
    return re.sub(r"\n+(Attributes|Class attributes):\n(    .*\n?|\n)*", "\n", text).strip()


def sentence(cls: type | None) -> str:
    """The first sentence of a docstring, with Markdown code marks."""
    text = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
    return re.split(r"(?<=[.?])\s|;\s", text)[0].rstrip(".") + "." if text else ""


# -- metrics ------------------------------------------------------------------------------


def _measures() -> dict[str, list[str]]:
    """Measure -> the scorers that have it."""
    found: dict[str, list[str]] = {}
    for name in registry.names("scorer"):
        cls = registry.find("scorer", name)
        if cls is not None and issubclass(cls, Scorer):
            for measure in cls.MEASURES:
                found.setdefault(measure, []).append(name)
    return found


def _stage_metrics() -> dict[str, list[str]]:
    """Metric -> the stages that have it in a closed list."""
    found: dict[str, list[str]] = {}
    for stage in registry.names("stage"):
        cls = registry.find("stage", stage)
        info = cls.model_fields.get("metrics") if cls else None
        for metric in _literals(info.annotation) if info else ():
            found.setdefault(metric, []).append(stage)
    return found


def _literals(annotation: Any) -> list[str]:
    inner = get_args(annotation)
    if any(isinstance(a, str) for a in inner):
        return [str(a) for a in inner]
    return [name for a in inner for name in _literals(a)]


def _metric(name: str) -> Part:
    example = f"metrics: [{name.replace('@K', '@1')}]"
    if name in GENERAL_METRICS:
        text, reads = GENERAL_METRICS[name]
        return Part(METRIC, name, text, text, reads, (), example)
    scorers, stages = _measures().get(name), _stage_metrics().get(name)
    if scorers:
        text = f"Mean of a measure of {' and '.join(f'scorer {s}' for s in scorers)}."
        return Part(METRIC, name, text, text, (f"Score.meta.{name}",), (), example)
    if stages:
        text = f"A metric of stage {' and '.join(stages)}."
        return Part(METRIC, name, text, text, (), (), example)
    raise KeyError(name)


# -- records ------------------------------------------------------------------------------


def _records() -> dict[str, type[BaseModel]]:
    return {
        name: cls
        for name, cls in vars(records).items()
        if isinstance(cls, type) and issubclass(cls, records.Record) and cls is not records.Record
    }


# -- examples -----------------------------------------------------------------------------


def _example(kind: str, name: str, cls: type[BaseModel]) -> str:
    """The shortest way in which a shipped recipe uses it, else what has to be given."""
    key = "uses" if kind == "stage" else "name"
    required = {o.key: f"<{o.type}>" for o in options(cls) if o.required}
    used: list[Any] = [name] if kind != "stage" and not required else []
    for value in _shipped():
        given = value.keys() - {key}
        # A source and an environment can have one name: told apart by their options.
        if value.get(key) == name and required.keys() <= given <= cls.model_fields.keys():
            used.append(value)
    shown = min(used, key=lambda v: len(str(v)), default={key: name, **required})
    label = name.rpartition(".")[2] if kind == "stage" else kind
    if isinstance(shown, str):
        return f"{label}: {shown}"
    return yaml.safe_dump(
        {label: shown}, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True
    ).strip()


@cache
def _shipped() -> list[dict[str, Any]]:
    """All mappings in shipped recipes."""
    files = sorted(builtin_dir().rglob("*.yaml"))
    return [value for path in files for value in _mappings(load_yaml(path))]


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _mappings(inner)

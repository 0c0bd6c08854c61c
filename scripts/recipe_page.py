"""The page of one recipe, part by part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipe_page_graph import data_of, flowchart
from recipe_page_parts import WIRING, changes, links, meaning, missing_values, settings, table
from recipe_page_schema import MISSING, option, value_at
from recipe_page_yaml import head, plain, read

from itercli import registry
from itercli.recipe.compose import Composed
from itercli.recipe.parts import sentence
from itercli.recipe.plan import Plan, build_plan
from itercli.recipe.schema import SCOPES, check
from itercli.recipe.tree import builtin_dir
from itercli.stages.base import Stage

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTE = "<!-- Made from recipes/recipe/{name}.yaml: edit that, then `make pages`. -->"
PARTS = ("model", "data", "sampler", "trainer")
OPTIONS = """\
What the recipe sets, to be changed from the shell (`loop.NAME.OPTION=VALUE`, `training.OPTION=VALUE`)
or in a copy. Changing an option runs the stage again, and what depends on it, unless the table says
that it doesn't."""


class Page:
    """The page of one recipe."""

    def __init__(self, name: str, names: list[str]) -> None:
        self.name, self.written = name, read(f"recipe/{name}")
        self.composed = missing_values(f"recipe={name}")[1]
        raw = {**self.composed.raw, "iterations": min(2, self.composed.raw.get("iterations", 1))}
        self.plan: Plan = build_plan(check(raw, base=Path.cwd()), provisional=True)
        self.bases = [b.removeprefix("recipe/") for b in self.written.bases]
        self.derived = [n for n in names if f"recipe/{name}" in read(f"recipe/{n}").bases]
        self.presets = sorted(p.stem for p in (builtin_dir() / "scale" / name).glob("*.yaml"))

    def text(self) -> str:
        """The whole page."""
        raw = self.composed.raw
        loop = f"{raw.get('iterations', 1)} iterations. " if raw.get("loop") else ""
        scale = [f"iter plan recipe={self.name} scale={p}" for p in self.presets]
        commands = [
            *(f"iter {c} recipe={self.name}" for c in ("plan", "run")),
            *(" ".join([line, *self.preset(p)[0]]) for line, p in zip(scale, self.presets, strict=True)),
            f"iter recipes new mine --from {self.name}",
        ]
        headline = f"Headline: `{raw['headline']}`." if raw.get("headline") else ""
        parts = [
            f"# {self.name}",
            NOTE.format(name=self.name),
            raw["description"].rstrip(".") + ".",
            links(re.sub(r"\nMore: .*", "", self.written.head)),
            f"Paper: {links(raw['paper'])}." if raw.get("paper") else "",
            self._more(),
            "\n".join(f"    {c}" for c in commands),
            "## Stages",
            (loop + headline).strip(),
            self._stages(),
            f"```mermaid\n{flowchart(self.plan)}\n```",
            "## Models and data",
            self._roles(),
            self._data(),
            *(self._difference() if self.bases else []),
            *self._options(),
            *(part for p in self.presets for part in self._preset(p)),
        ]
        return "\n\n".join(p for p in parts if p) + "\n"

    def _more(self) -> str:
        """Links to the hand-written page, to what it is derived from and what is derived from it."""
        named = re.findall(r"docs/(\w+)\.md", self.written.head + self.composed.raw.get("paper", ""))
        page = next((n for n in [*named, self.name, *self.bases] if (DOCS / f"{n}.md").exists()), None)
        found = [f"How it works and what it shows: [{page}](../{page}.md)."] if page else []
        for what, names in ("Derived from", self.bases), ("Beside it:", self.derived):
            if names:
                found.append(f"{what} {', '.join(f'[{n}]({n}.md)' for n in names)}.")
        return " ".join(found)

    def _stages(self) -> str:
        rows = []
        for scope in SCOPES:
            for name, stage in self.plan.recipe.stages[scope].items():
                if "." not in name:
                    rows.append(self._stage(scope, name, stage))
        return table(["stage", "`uses`", "what it does", "reads", "makes"], rows)

    def _stage(self, scope: str, name: str, stage: Stage) -> list[str]:
        node = next(n for n in self.plan.nodes.values() if (n.scope, n.name) == (scope, name))
        own = [n for n in self.plan.nodes.values() if n.id == node.id or n.id.startswith(f"{node.id}.")]
        reads = []
        for n in own:
            reads += [f"`data.{key}`" for key in data_of(n, self.composed.raw.get("data", {})).values()]
            for m in n.stage.model_links():
                reads.append(f"`{m.role}`" + (" (start)" if m.which == "initial" else ""))
            reads += [f"`{k.ref}`" for k in n.stage.links(n.name) if k.ref.split(".")[0] != name]
        copied = re.fullmatch(r"\$\{(.+)\}", str(self.written.stages.get(f"{scope}.{name}")))
        said = [f"As `{copied[1]}`."] if copied else [sentence(type(stage)), *self._components(node.raw)]
        comment = self.written.comments.get(f"{scope}.{name}", "")
        said.append(comment[:1].upper() + comment[1:] + ("" if comment.endswith(".") else "."))
        made = f"{stage.OUTPUT}: `{role}`" if (role := stage.trains()) else stage.OUTPUT
        what = " ".join(s for s in said if s != ".")
        return [f"`{scope}.{name}`", f"`{stage.NAME}`", what, ", ".join(dict.fromkeys(reads)), made]

    def _components(self, raw: dict[str, Any]) -> Iterator[str]:
        for group in ("selector", "method", "scorer"):
            value = raw.get(group)
            name = value.get("name") if isinstance(value, dict) else value
            if name and (cls := registry.find(group, str(name))):
                yield f"`{name}`: {sentence(cls)}"

    def _roles(self) -> str:
        trained: dict[str, list[str]] = {}
        for scope, group in self.plan.recipe.stages.items():
            for name, stage in group.items():
                if role := stage.trains():
                    trained.setdefault(role, []).append(f"`{scope}.{name}`")
        rows = []
        for role, spec in self.plan.recipe.config.roles.items():
            note = self.written.comments.get(f"roles.{role}", "")
            rows.append([f"`{role}`", f"`{spec.path}`", ", ".join(trained.get(role, ["never"])), note])
        return table(["role", "starts as", "trained by", ""], rows)

    def _data(self) -> str:
        choices = {part: self.composed.choices[part] for part in PARTS}
        parts = "Parts: " + ", ".join(f"`{k}={v}`" for k, v in choices.items()) + "."
        rows = [[f"`data.{k}`", f"`{plain(v)}`"] for k, v in self.composed.raw.get("data", {}).items()]
        file = builtin_dir() / "data" / f"{choices['data']}.yaml"
        return "\n\n".join([parts, head(file) if file.is_file() else "", table(["data", ""], rows)])

    def _options(self) -> list[str]:
        """All that the recipe sets, stage by stage, but for what feeds a stage: that is in the table."""
        sections: dict[str, list[str]] = {}  # table -> the stages that it is of
        written = [*self.written.stages.items(), ("training", self.written.values.get("training"))]
        for key, entry in written:
            if self.bases and key not in self._new():
                continue  # on the page that it is derived from
            rows = [self._option(key, path, value) for path, value in self._own(key, entry)]
            if rows:
                made = table(["option", "here", "default", "meaning"], rows)
                sections.setdefault(made, []).append(key)
        found = [part for made, keys in sections.items() for part in (f"### {', '.join(keys)}", made)]
        return ["## Options", OPTIONS, *found] if found else []

    def _own(self, key: str, entry: object) -> Iterator[tuple[str, Any]]:
        """Dotted keys below a stage, or `training`, with what the recipe writes there."""
        scope, _, name = key.partition(".")
        node = next((n for n in self.plan.nodes.values() if (n.scope, n.name) == (scope, name)), None)
        fed = WIRING | (set(data_of(node, self.composed.raw.get("data", {}))) if node else set())
        if node:
            fed |= {k.key for k in node.stage.links(name)} | {m.key for m in node.stage.model_links()}
        for path, value in settings(entry, key, self.composed.raw) if isinstance(entry, dict) else ():
            if path.removeprefix(f"{key}.").split(".")[0] not in fed:
                yield path, value

    def _option(self, key: str, path: str, value: Any) -> list[str]:
        shown = path.removesuffix(".name")  # which component it is, not an option of it
        about = option(shown.split("."), self.composed.raw)
        default = f"`{about.default}`" if about and about.default else ""
        said = meaning(about, self.written.comments.get(path, ""))
        return [f"`{shown.removeprefix(f'{key}.')}`", f"`{plain(value)}`", default, said]

    def _base(self) -> dict[str, Any]:
        return missing_values(f"recipe={self.bases[0]}")[1].raw

    def _new(self) -> set[str]:
        """Stages that a derived recipe adds."""
        return {key for key in self.written.stages if value_at(key.split("."), self._base()) is MISSING}

    def _difference(self) -> list[str]:
        """A derived recipe: what it sets otherwise, but for stages of its own."""
        own = {f"`{key}`" for key in self._new()}
        rows = [row for row in changes(self.written, self._base()) if row[0] not in own]
        if not rows:
            return []
        return [f"## Otherwise than {self.bases[0]}", table(["key", self.bases[0], "here", ""], rows)]

    def preset(self, name: str) -> tuple[list[str], Composed]:
        """Overrides that a preset needs, and the recipe at its size."""
        return missing_values(f"recipe={self.name}", f"scale={name}")

    def _preset(self, name: str) -> list[str]:
        written = read(f"scale/{self.name}/{name}")
        chosen = self.preset(name)[1].choices
        parts = [f"`{k}={chosen[k]}`" for k in PARTS if self.composed.choices[k] != chosen[k]]
        layers = [*map(read, written.bases), written]
        rows = [row for layer in layers for row in changes(layer, self.composed.raw)]
        swapped = f"Parts: {', '.join(parts)}." if parts else ""
        changed = table(["key", self.name, f"scale={name}", ""], rows)
        return [f"## scale={name}", links(written.head), swapped, changed]

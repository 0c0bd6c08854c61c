"""Stage `select`: turn completions, scored or not, into training examples."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal

from pydantic import Field

from itercli.recipe.fields import Selector
from itercli.records import Prompt, Record, Score, Trajectory
from itercli.registry import register
from itercli.stages.base import ArtifactKind, Link, Stage, StageContext, StageError
from itercli.stages.carrying import Texts
from itercli.stages.prompts import inline
from itercli.stages.selectors import Dropped

# What holds the rows that a selector reads.
KINDS: dict[type[Record], ArtifactKind] = {Score: "scores", Trajectory: "trajectories"}


@register("stage", "select")
class Select(Stage):
    """Builds examples prompt by prompt; what is dropped is counted by reason."""

    OUTPUT = "examples"
    SEEDED = True
    WITH_PROMPTS = True

    uses: Literal["select"] = "select"
    of: str | None = Field(
        None,
        description="The stage to choose from: scores, or trajectories if the selector reads them; "
        "none: prompts alone.",
    )
    prompts: str | dict[str, Any] | None = Field(
        None, description="A `prompts` stage or a source in place, for selectors that need no scores."
    )
    selector: Selector = Field(description="Which selector builds the examples.")

    def links(self, name: str) -> list[Link]:
        links = []
        if self.of is not None:
            links.append(Link("of", self.of, (KINDS[self.selector.ROWS],), "of"))
        if self.prompts is not None:
            links.append(Link("prompts", inline(self.prompts, name)[0], ("prompts",), "prompts"))
        return links

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        return {} if self.prompts is None else inline(self.prompts, name)[1]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"], params["prompts"]
        return params

    def check(self) -> list[tuple[str, str, str]]:
        if self.selector.ROWS not in KINDS:
            return [("selector", f"reads rows of type {self.selector.ROWS.__name__}", "Score or Trajectory")]
        if self.of is None and self.prompts is None:
            return [
                ("of", "a select stage needs something to select from", "`of:` a score stage, or `prompts:`")
            ]
        return []

    def run(self, ctx: StageContext) -> None:
        rows: dict[str, list[Any]] = {}
        for artifact in ctx.inputs.get("of", []):
            found: Iterator[Any] = artifact.rows(self.selector.ROWS)
            for prompt_id, group in groupby(found, key=lambda row: row.prompt_id):
                rows.setdefault(prompt_id, []).extend(group)
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        texts = Texts(row for group in rows.values() for row in group)
        dropped: Counter[str] = Counter()

        def groups() -> Iterator[tuple[Prompt, list[Any]]]:
            for n, prompt in enumerate(prompts.values(), 1):
                ctx.progress(n, len(prompts), "prompts")
                yield prompt, rows.get(prompt.id, [])

        examples: list[Record] = []
        for item in self.selector.select(groups(), rng=random.Random(ctx.seed)):
            if isinstance(item, Dropped):
                dropped[item.reason] += 1
            elif isinstance(item, self.selector.EXAMPLES):
                examples.append(texts.into(item))
            else:
                raise StageError(
                    f"{ctx.name}: selector {self.selector.NAME} gave a {type(item).__name__}; it must give "
                    f"{self.selector.EXAMPLES.__name__} rows (its EXAMPLES) and Dropped"
                )
        counts = {f"dropped: {reason}": n for reason, n in sorted(dropped.items())}
        ctx.finish_rows(self.selector.EXAMPLES, iter(examples), **counts)

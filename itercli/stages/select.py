"""Stage `select`: turn scored completions into training examples."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal

from pydantic import Field

from itercli.recipe.fields import Selector
from itercli.records import Prompt, Record, Score
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext
from itercli.stages.prompts import inline
from itercli.stages.selectors import Dropped


@register("stage", "select")
class Select(Stage):
    """Builds examples prompt by prompt; what is dropped is counted by reason."""

    OUTPUT = "examples"
    SEEDED = True
    WITH_PROMPTS = True

    uses: Literal["select"] = "select"
    of: str | None = Field(None, description="The `score` stage to choose from; none: prompts alone.")
    prompts: str | dict[str, Any] | None = Field(
        None, description="A `prompts` stage or a source in place, for selectors that need no scores."
    )
    selector: Selector = Field(description="Which selector builds the examples.")

    def links(self, name: str) -> list[Link]:
        links = []
        if self.of is not None:
            links.append(Link("of", self.of, ("scores",), "of"))
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
        if self.of is None and self.prompts is None:
            return [
                ("of", "a select stage needs something to select from", "`of:` a score stage, or `prompts:`")
            ]
        return []

    def run(self, ctx: StageContext) -> None:
        scores: dict[str, list[Score]] = {}
        for artifact in ctx.inputs.get("of", []):
            for prompt_id, group in groupby(artifact.rows(Score), key=lambda s: s.prompt_id):
                scores.setdefault(prompt_id, []).extend(group)
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        dropped: Counter[str] = Counter()

        def groups() -> Iterator[tuple[Prompt, list[Score]]]:
            for n, prompt in enumerate(prompts.values(), 1):
                ctx.progress(n, len(prompts), "prompts")
                yield prompt, scores.get(prompt.id, [])

        rows: list[Record] = []
        for item in self.selector.select(groups(), rng=random.Random(ctx.seed)):
            if isinstance(item, Dropped):
                dropped[item.reason] += 1
            else:
                rows.append(item)
        counts = {f"dropped: {reason}": n for reason, n in sorted(dropped.items())}
        ctx.finish_rows(self.selector.EXAMPLES, iter(rows), **counts)

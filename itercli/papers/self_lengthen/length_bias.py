"""Selection by length: short texts are thinned out, with no target length anywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from itercli.recipe.seeds import seed_for
from itercli.records import Trajectory
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext


@register("stage", "self_lengthen.length_bias")
class LengthBias(Stage):
    """Keeps long texts more often than short ones.

    With n texts in ascending order of characters, text i has rank r = 1 - i/n and is kept with
    probability max(0, 1 - 2r³): the shortest fifth never, the median at 75 %, 59.5 % in all.
    Where the draw leaves fewer than `at_least`, the longest of the others fill up: a handful of
    texts often has none that survives, a single one never does.

    Source: `drop_short` of the released code.
    """

    OUTPUT = "trajectories"
    SEEDED = True

    uses: Literal["self_lengthen.length_bias"] = "self_lengthen.length_bias"
    of: str = Field(description="The stage with the texts.")
    at_least: int = Field(1, ge=0, description="Texts to keep in any case, the longest first; 0 is off.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"]
        return params

    def run(self, ctx: StageContext) -> None:
        rows = [t for a in ctx.inputs["of"] for t in a.rows(Trajectory)]
        chances = keep_probabilities([len(t.completion) for t in rows])
        drawn = [
            random.Random(seed_for(ctx.seed, *t.key)).random() < chance
            for t, chance in zip(rows, chances, strict=True)
        ]
        spared = [i for i in sorted(range(len(rows)), key=lambda i: -len(rows[i].completion)) if not drawn[i]]
        for i in spared[: max(0, self.at_least - sum(drawn))]:
            drawn[i] = True
        kept = [t for t, keep in zip(rows, drawn, strict=True) if keep]
        ctx.finish_rows(Trajectory, iter(kept), dropped=len(rows) - len(kept))


def keep_probabilities(lengths: Sequence[int]) -> list[float]:
    """Chance of each text to be kept, in the order given; equal lengths rank in that order."""
    chances = [0.0] * len(lengths)
    for i, place in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        chances[place] = max(0.0, 1 - 2 * (1 - i / len(lengths)) ** 3)
    return chances

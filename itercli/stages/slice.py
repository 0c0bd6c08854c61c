"""Stage `slice`: this iteration's share of the prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from itercli.records import Prompt
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.prompts import Prompted, inline


@register("stage", "slice")
class Slice(Prompted):
    """Deals the prompts out to iterations like cards, so that sizes differ by one at most and none is lost.

    The order is that of a hash of the ids: the same for every seed, iteration and number of
    prompts before it. After `slices` iterations it begins again.
    """

    OUTPUT = "prompts"
    # The seed is not drawn from: it is what tells the iterations' keys apart.
    SEEDED = True

    uses: Literal["slice"] = "slice"
    slices: int = Field(ge=1, description="In how many parts; commonly the number of iterations.")
    salt: int = Field(0, description="Another number is another dealing.")

    def links(self, name: str) -> list[Link]:
        return [Link("whole", inline(self.prompts, name)[0], ("prompts",), "prompts")]

    def share(self, rows: Iterable[Prompt], iteration: int) -> list[Prompt]:
        """An iteration's prompts of all these."""
        dealt = sorted(rows, key=lambda p: hashlib.sha256(f"{self.salt} {p.id}".encode()).digest())
        return dealt[(iteration - 1) % self.slices :: self.slices]

    def run(self, ctx: StageContext) -> None:
        rows = [p for a in ctx.inputs["whole"] for p in a.rows(Prompt)]
        mine = self.share(rows, ctx.iteration)
        if not mine:
            raise StageError(f"{ctx.name}: {len(rows)} prompts can't be cut into {self.slices} slices")
        ctx.finish_rows(Prompt, iter(mine))

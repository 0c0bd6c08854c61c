"""Stage `agent_r.mix`: general chat among the agent's dialogues, so that it stays a chat model."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from itercli.data.base import hash_files
from itercli.data.general import as_dialogue, conversations_file, read_conversations
from itercli.recipe.seeds import seed_for
from itercli.records import Dialogue
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext


@register("stage", "agent_r.mix")
class Mix(Stage):
    """Adds general dialogues until the agent's make up `share` of all.

    The share is of dialogues, as AgentTuning's authors explain their eta; which general ones are
    taken is drawn anew each iteration. If there are too few, all are taken and the lack is counted.
    """

    OUTPUT = "dialogues"
    SEEDED = True

    uses: Literal["agent_r.mix"] = "agent_r.mix"
    of: str = Field(description="The stage with the agent's dialogues.")
    general: str | None = Field(
        None,
        json_schema_extra={"how": True},
        description="JSON or JSON Lines of conversations (ShareGPT or `messages`), or the shipped set "
        "`textcraft-games`; null: none.",
    )
    share: float = Field(0.2, gt=0, le=1, description="Eta: share of the agent's dialogues.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("dialogues",), "of")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"]
        return params

    def check(self) -> list[tuple[str, ...]]:
        if self.of.startswith("all."):
            return [
                (
                    "of",
                    "rows of several iterations have the same keys",
                    "one stage; data_scope: all trains on all",
                )
            ]
        return []

    def fingerprint(self) -> dict[str, Any]:
        if not self.general:
            return {}
        return {"general": list(hash_files([conversations_file(self.general)]).values())}

    def run(self, ctx: StageContext) -> None:
        own = [row for a in ctx.inputs["of"] for row in a.rows(Dialogue)]
        wanted = round(len(own) * (1 - self.share) / self.share) if self.general else 0
        counts: Counter[str] = Counter(agent=len(own))
        general = list(self._drawn(ctx.seed, wanted, counts))
        counts["general"] = len(general)
        if len(general) < wanted:
            counts["general_missing"] = wanted - len(general)
            ctx.event(
                "warning",
                text=f"{self.general} has {len(general)} of {wanted} general dialogues that were wanted",
            )
        ctx.finish_rows(Dialogue, iter([*own, *general]), **counts)
        ctx.finish_metrics({"agent": len(own), "general": len(general)})

    def _drawn(self, seed: int, wanted: int, counts: Counter[str]) -> Iterator[Dialogue]:
        """General dialogues in random order, without repetition; unusable rows are counted."""
        if not self.general or not wanted:
            return
        rows = read_conversations(conversations_file(self.general))
        order = list(range(len(rows)))
        random.Random(seed_for(seed, "general")).shuffle(order)
        for n in order:
            made = as_dialogue(rows[n], f"general/{n}")
            if isinstance(made, str):
                counts[f"dropped_{made}"] += 1
                continue
            yield made
            wanted -= 1
            if not wanted:
                return

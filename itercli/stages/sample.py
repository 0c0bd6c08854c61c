"""Stage `sample`: draw completions from a role's current policy.

Each completion has its own seed, so it doesn't matter in which order they are drawn or
after how many restarts. Finished completions go to the journal one by one; a scoring
stage reads them from there while the rest is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from itercli.recipe.seeds import seed_for
from itercli.records import Prompt, Trajectory
from itercli.registry import register
from itercli.sampling.base import Request
from itercli.stages.base import ModelLink, StageContext, StageError
from itercli.stages.drawing import DrawingStage, open_sampler
from itercli.stages.prompts import Prompted
from itercli.training.base import Interrupted


@register("stage", "sample")
class Sample(Prompted, DrawingStage):
    """Draws `n` completions per prompt."""

    OUTPUT = "trajectories"

    uses: Literal["sample"] = "sample"
    role: str = Field(description="Role whose current version answers.")
    n: int = Field(1, ge=1, description="Completions per prompt.")

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current")]

    def check(self) -> list[tuple[str, str, str]]:
        if self.temperature == 0 and self.n > 1:
            return [
                (
                    "n",
                    f"greedy decoding (temperature 0) gives {self.n} equal completions",
                    "n: 1, or temperature > 0",
                )
            ]
        return []

    def run(self, ctx: StageContext) -> None:
        prompts = [p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)]
        journal = ctx.journal(Trajectory, total=len(prompts) * self.n)
        params = self.params()
        seeds = {(p.id, i): seed_for(ctx.seed, p.id, i) for p in prompts for i in range(self.n)}

        def requests() -> Iterator[Request]:
            for p in prompts:
                for i in range(self.n):
                    if (p.id, i) not in journal.done:
                        yield Request((p.id, i), tuple(p.messages), seeds[p.id, i], params)

        total, done = len(seeds), len(journal.done)
        if done < total:
            policy = ctx.models["policy"]
            ctx.progress(done, total, "completions", status=f"loading {policy.version}")
            sampler = open_sampler(ctx, self.sampler, policy)
            ctx.progress(done, total, "completions")
            tokens = 0
            for drawn in sampler.generate(requests(), ctx.stopping):
                if drawn.key not in seeds:
                    raise StageError(
                        f"{ctx.name}: sampler {self.sampler.NAME} answers {drawn.key}, which nobody asked for"
                    )
                prompt_id, index = drawn.key
                journal.append(
                    Trajectory(
                        prompt_id=prompt_id,
                        index=index,
                        seed=seeds[drawn.key],
                        completion=drawn.text,
                        finish=drawn.finish,
                        tokens=drawn.tokens,
                        policy=policy.version,
                        generated=drawn.generated,
                    )
                )
                done += 1
                tokens += drawn.tokens
                ctx.progress(done, total, "completions", tokens=tokens)
            if done < total and not ctx.stopping():
                raise StageError(f"{ctx.name}: the sampler ended after {done} of {total} completions")
            if done < total:
                raise Interrupted
        order = {p.id: n for n, p in enumerate(prompts)}
        cut = sum(r.finish == "length" for r in journal.rows())  # type: ignore[attr-defined]
        ctx.finish_rows(
            Trajectory,
            journal.ordered(lambda row: (order[row.prompt_id], row.index)),
            cut_by_length=cut,
            tokens=sum(r.tokens for r in journal.rows()),  # type: ignore[attr-defined]
        )

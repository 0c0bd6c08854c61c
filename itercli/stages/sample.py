"""Stage `sample`: draw completions from a role's current policy.

Each completion has its own seed, so it doesn't matter in which order they are drawn or
after how many restarts. Finished completions go to the journal one by one; a scoring
stage reads them from there while the rest is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.recipe.seeds import seed_for
from itercli.records import Prompt, Trajectory
from itercli.registry import register
from itercli.sampling.base import Request, Sampled
from itercli.stages.base import ArtifactKind, Journal, ModelLink, StageContext, StageError
from itercli.stages.drawing import DrawingStage, open_sampler
from itercli.stages.overlong import CUT, ON_OVERLONG, ROOM, Fitted, OnOverlong, fitted
from itercli.stages.prompts import Prompted
from itercli.training.base import Interrupted


@register("stage", "sample")
class Sample(Prompted, DrawingStage):
    """Draws `n` completions per prompt."""

    OUTPUT = "trajectories"
    ROWWISE: ClassVar[Mapping[str, ArtifactKind]] = {"prompts": "prompts"}
    NOT_IN_ROWS = frozenset({"n", "on_overlong"})

    uses: Literal["sample"] = "sample"
    role: str = Field(description="Role whose current version answers.")
    n: int = Field(1, ge=1, description="Completions per prompt.")
    on_overlong: OnOverlong = Field("fail", description=ON_OVERLONG)

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        if self.on_overlong == "fail":  # keys from before there was a choice stay
            del params["on_overlong"]
        return params

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
        fit = self.on_overlong == "fit"
        chosen = Fitted()
        seeds = {(p.id, i): seed_for(ctx.seed, p.id, i) for p in prompts for i in range(self.n)}

        self._borrow(ctx, prompts, seeds, journal)

        def requests() -> Iterator[Request]:
            for prompt_id, messages in chosen.messages.items():
                for i in range(self.n):
                    if (prompt_id, i) not in journal.done:
                        yield Request((prompt_id, i), messages, seeds[prompt_id, i], params, fit=fit)

        total, done = len(seeds), len(journal.done)
        if done < total:
            policy = ctx.models["policy"]
            ctx.progress(done, total, "completions", status=f"loading {policy.version}")
            sampler = open_sampler(ctx, self.sampler, policy)
            left = [p for p in prompts if any((p.id, i) not in journal.done for i in range(self.n))]
            measure = getattr(sampler, "measure", None)  # a plug-in's or a server's may not know
            chosen = fitted(ctx, left, self.on_overlong, self.max_new_tokens, measure)
            total -= self.n * len(chosen.dropped)
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
                        meta=chosen.meta.get(prompt_id, {}) | _noted(drawn),
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
        counts: Counter[str] = Counter()
        for row in journal.rows():
            assert isinstance(row, Trajectory)
            counts["cut_by_length"] += row.finish == "length"
            counts["tokens"] += row.tokens
            counts["no answer"] += row.finish == "error"
            counts["overlong: fewer tokens"] += row.meta.get(ROOM, 0) > 0
            counts["overlong: prompt cut"] += CUT in row.meta
            counts["without token ids"] += row.generated is None and row.finish != "error"
            counts["differ when re-encoded"] += row.generated is not None and row.generated.reencodes is False
            counts["prompts with the text of a control token"] += "control_text" in row.meta
        counts["overlong: prompts dropped"] = len(chosen.dropped)
        ctx.finish_rows(
            Trajectory,
            journal.ordered(lambda row: (order[row.prompt_id], row.index)),
            **{name: n for name, n in counts.items() if n or name in ("cut_by_length", "tokens")},
        )

    def _borrow(
        self, ctx: StageContext, prompts: list[Prompt], seeds: dict[tuple[str, int], int], journal: Journal
    ) -> None:
        """Copy rows of the same messages from earlier artifacts."""
        asked = {p.id: p.messages for p in prompts}
        for lender in ctx.lenders() if len(journal.done) < len(seeds) else ():
            same = {
                p.id for p in lender.inputs("prompts", "prompts", Prompt) if p.messages == asked.get(p.id)
            }
            for row in lender.rows(Trajectory) if same else ():
                if ctx.stopping():
                    raise Interrupted
                wanted = row.prompt_id in same and row.seed == seeds.get(row.key)
                # What becomes of a prompt without room depends on `on_overlong`.
                special = row.finish == "error" or ROOM in row.meta or CUT in row.meta
                if wanted and not special and row.key not in journal.done:
                    journal.append(row)
                    ctx.borrowed(lender)


def _noted(drawn: Sampled) -> dict[str, Any]:
    """What a row keeps of what its sampler says: why it could not answer, and what it saw in the prompt."""
    told = {name: drawn.meta[name] for name in ("control_text",) if name in drawn.meta}
    if drawn.finish == "error" and "error" in drawn.meta:
        told["error"] = str(drawn.meta["error"])
    return told

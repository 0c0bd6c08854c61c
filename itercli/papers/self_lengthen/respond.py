"""Step 1: first answers of the generator, redrawn until they pass the check."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from itercli.recipe.seeds import seed_for
from itercli.records import Prompt, Trajectory
from itercli.registry import register
from itercli.stages.base import ModelLink, StageContext, StageError
from itercli.stages.jobs import Ask, GaveUp, JobStage, Reject, Steps
from itercli.stages.prompts import Prompted
from itercli.verifiers.text_check import Check


@register("stage", "self_lengthen.respond")
class Respond(Prompted, JobStage):
    """Draws `n` answers per instruction that pass the check, with no word about length."""

    OUTPUT = "trajectories"

    uses: Literal["self_lengthen.respond"] = "self_lengthen.respond"
    role: str = Field(description="The generator.")
    n: int = Field(2, ge=1, description="Answers per instruction.")
    tries: int = Field(20, ge=1, description="Tries per answer.")
    accept: Check = Field(description="Language or rules that an answer must pass.")
    finished: bool = Field(True, description="Turn down texts cut by max_new_tokens.")

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["role"]
        return params

    def run(self, ctx: StageContext) -> None:
        prompts = [p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)]
        jobs = {
            f"{p.id}#{i}": lambda reject, p=p, i=i: self._job(ctx, p, i, reject)
            for p in prompts
            for i in range(self.n)
        }
        made = self.run_jobs(ctx, jobs, "answers")
        if not made.rows:
            raise StageError(f"{ctx.name}: no answer passed the check: {made.counts}")
        ctx.finish_rows(Trajectory, iter(made.rows.values()), **made.counts)

    def _job(self, ctx: StageContext, prompt: Prompt, index: int, reject: Reject) -> Steps[Trajectory]:
        for attempt in range(1, self.tries + 1):
            call = yield Ask("respond", tuple(prompt.messages), self.params())
            failed = rejections(self.accept, call.completion, call.finish, self.finished)
            if not failed:
                return Trajectory(
                    prompt_id=prompt.id,
                    index=index,
                    seed=seed_for(ctx.seed, f"{prompt.id}#{index}"),
                    completion=call.completion,
                    finish=call.finish,
                    tokens=call.tokens,
                    policy=call.policy,
                    meta={"tries": attempt},
                    generated=call.generated,
                )
            for name in failed:
                reject(name)
        return GaveUp("no answer passed")


def rejections(check: Check, text: str, finish: str, finished: bool) -> tuple[str, ...]:
    """Names of the checks that a text fails; how it ended counts as one."""
    cut = ("not_finished",) if finished and finish != "stop" else ()
    return (*cut, *check.failed(text))

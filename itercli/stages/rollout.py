"""Stage `rollout`: episodes of a role's current policy in environments, many in lock-step."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import Field

from itercli.environments.base import EnvironmentFailed
from itercli.recipe.seeds import seed_for
from itercli.records import Episode, Turn
from itercli.registry import register
from itercli.stages.acting import ActingStage, Scene, failed_to_begin, incidents, turn_of
from itercli.stages.base import StageContext
from itercli.stages.jobs import Reject, Steps


@register("stage", "rollout")
class Rollout(ActingStage):
    """Plays `n` episodes per task; one job each, a call per turn.

    A task may begin in the middle: `meta.prefix` lists answers that are taken as given and acted
    out before the policy's first turn. Their turns stand in the episode with `loss` off.
    """

    OUTPUT = "episodes"

    uses: Literal["rollout"] = "rollout"
    n: int = Field(1, ge=1, description="Episodes per task.")
    max_turns: int = Field(30, ge=1, description="Turns of the policy at most, those given not counted.")

    def check(self) -> list[tuple[str, str, str]]:
        problems = super().check()
        if self.temperature == 0 and self.n > 1:
            what = f"greedy decoding (temperature 0) gives {self.n} equal episodes"
            problems.append(("n", what, "n: 1, or temperature > 0"))
        return problems

    def run(self, ctx: StageContext) -> None:
        scenes = self.scenes(ctx)
        jobs = {
            f"{scene.prompt.id}#{i}": lambda reject, scene=scene, i=i: self._job(ctx, scene, i, reject)
            for scene in scenes
            for i in range(self.n)
        }
        made = self.run_jobs(ctx, jobs, "episodes", concurrent=self.concurrent)
        ended = Counter(f"ended: {episode.finish}" for episode in made.rows.values())
        turns = sum(len(episode.turns) for episode in made.rows.values())
        counts: dict[str, Any] = {"turns": turns, **ended, **made.counts, **incidents(scenes)}
        ctx.finish_rows(Episode, iter(made.rows.values()), **counts)

    def _job(self, ctx: StageContext, scene: Scene, index: int, reject: Reject) -> Steps[Episode]:
        turns: list[Turn] = []
        tokens, finish = 0, "turns"
        meta: dict[str, Any] = {"environment": scene.spec.known_as}
        try:
            opening = scene.opening
        except EnvironmentFailed as error:
            failed_to_begin(ctx, scene, error)
            opening, finish, meta = [], "error", meta | {"error": str(error)}
        else:
            for text in scene.prompt.meta.get("prefix", ()):
                turns.append(Turn(text=text, loss=False, **scene.step(turns, text)))
            given = len(turns)
            meta |= {"given": given} if given else {}
            while finish == "turns" and not _over(turns) and len(turns) < given + self.max_turns:
                call = yield scene.asks(turns, self.params())[0]
                tokens += call.tokens
                turn = turn_of(call)
                if turn is None:
                    finish = "context"
                else:
                    turns.append(turn)
            if _over(turns):
                finish = "error" if "error" in turns[-1].info else "done"
        return Episode(
            prompt_id=scene.prompt.id,
            index=index,
            seed=seed_for(ctx.seed, f"{scene.prompt.id}#{index}"),
            policy=ctx.models["policy"].version,
            opening=opening,
            turns=turns,
            score=turns[-1].score if turns else 0.0,
            finish=finish,
            tokens=tokens,
            meta=meta,
        )


def _over(turns: list[Turn]) -> bool:
    return bool(turns) and turns[-1].done

"""Stage `reward`: scores of a reward model, as `score` gives those of a program."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from itercli.records import Prompt, Score, Trajectory
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.carrying import carried
from itercli.stages.classify import ClassifyStage, Key, batches
from itercli.training.base import Interrupted

if TYPE_CHECKING:
    from itercli.training.classifier_inputs import Encoded


@register("stage", "reward")
class RewardStage(ClassifyStage):
    """The reward of each completion, from a role's sequence classifier with one output.

    The role is one that `method: reward` trains, or any reward model of that form from a folder or
    a hub. It gets messages and applies its own template. Conversations that are too long lose
    their left end; each row says how many tokens it lost (`meta.truncated`).
    """

    OUTPUT = "scores"
    VERSION: ClassVar[int] = 2
    WITH_PROMPTS = True

    uses: Literal["reward"] = "reward"
    of: str = Field(description="A stage with completions.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        drawn = [t for a in ctx.inputs["of"] for t in a.rows(Trajectory)]
        trajectories = {t.key: t for t in drawn}
        if len(trajectories) < len(drawn):
            raise StageError(f"{ctx.name}: {self.of} holds several rows of one prompt and index")
        journal = ctx.journal(Score, total=len(drawn))
        if len(journal.done) < len(drawn):
            self._score(ctx, prompts, trajectories, journal)
        scores = {row.key: row for row in journal.rows() if isinstance(row, Score)}
        rows = [scores[t.key] for t in drawn]
        ctx.finish_rows(Score, iter(rows), truncated=sum(row.meta["truncated"] > 0 for row in rows))
        if rows:
            ctx.finish_metrics({"reward": fmean(row.value for row in rows)})

    def _score(
        self,
        ctx: StageContext,
        prompts: dict[str, Prompt],
        trajectories: dict[Key, Trajectory],
        journal: Any,
    ) -> None:
        from itercli.training.classifier import classify
        from itercli.training.classifier_inputs import input_limit, reward_input
        from itercli.training.models import load_tokenizer

        ref = ctx.models["model"]
        tokenizer = load_tokenizer(ref)
        limit = input_limit(ref, tokenizer, self.max_length)
        encoded: dict[Key, Encoded] = {}
        for key, drawn in trajectories.items():
            if ctx.stopping():
                raise Interrupted
            encoded[key] = reward_input(tokenizer, prompts[drawn.prompt_id].messages, drawn.completion, limit)
        model = self.load(ctx, len(journal.done), len(encoded), "rewards")
        for batch in batches({key: len(e.ids) for key, e in encoded.items()}, self.batch_tokens):
            if journal.done.issuperset(batch):
                continue
            if ctx.stopping():
                raise Interrupted
            rewards = classify(model, [encoded[key].ids for key in batch])[:, 0].tolist()
            for key, reward in zip(batch, rewards, strict=True):
                if not math.isfinite(reward):
                    raise StageError(
                        f"{ctx.name}: {ref.version} rewards completion {key[1]} of {key[0]!r} with {reward}; "
                        "set dtype: float32, or look at how it was trained"
                    )
                if key not in journal.done:
                    journal.append(_row(trajectories[key], encoded[key], reward))
            ctx.progress(len(journal.done), len(encoded), "rewards")


def _row(drawn: Trajectory, encoded: Encoded, reward: float) -> Score:
    return carried(
        Score(
            prompt_id=drawn.prompt_id,
            index=drawn.index,
            completion=drawn.completion,
            policy=drawn.policy,
            value=reward,
            meta={"tokens": len(encoded.ids), "truncated": encoded.cut},
        ),
        drawn,
    )

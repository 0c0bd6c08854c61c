"""Stage `prefer`: scores from a pairwise preference model, both orders averaged."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from itercli.records import Prompt, Score, Trajectory
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.carrying import carried
from itercli.stages.classify import ModelStage, batches
from itercli.training.base import Interrupted

PLACES = ("{context}", "{a}", "{b}")


@register("stage", "prefer")
class Prefer(ModelStage):
    """How often each answer is preferred to the others to its prompt, 0 to 1.

    A causal LM is asked about every two answers, in both orders; the value of an answer is the mean
    of its probabilities to win. So n answers take n (n - 1) questions, and a prompt's values have
    mean 1/2. `meta.order_gap` is how far the two orders were apart, on average.
    Source: RLHF Workflow (arXiv 2405.07863), which for more than two answers lets the winner
    go on to the next one; here each meets each, so that pairs of any rank can be made.
    """

    OUTPUT = "scores"
    VERSION: ClassVar[int] = 2
    WITH_PROMPTS = True

    uses: Literal["prefer"] = "prefer"
    of: str = Field(description="A stage with completions, at least two for each prompt.")
    frame: str = Field(
        "[CONTEXT] {context} [RESPONSE A] {a} [RESPONSE B] {b} \n",
        description="The question that the model was trained on.",
    )
    max_length: int = Field(
        3072, ge=8, description="Longest question in tokens; cut from the conversation's beginning: counted."
    )

    @field_validator("frame")
    @classmethod
    def _has_places(cls, frame: str) -> str:
        if missing := [place for place in PLACES if place not in frame]:
            raise ValueError(f"a text with {', '.join(PLACES)}; {', '.join(missing)} is missing")
        return frame

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        drawn = [t for a in ctx.inputs["of"] for t in a.rows(Trajectory)]
        answers: dict[str, list[Trajectory]] = {}
        for t in drawn:
            answers.setdefault(t.prompt_id, []).append(t)
        if lonely := [p for p, group in answers.items() if len(group) < 2]:
            raise StageError(
                f"{ctx.name}: {len(lonely)} prompts have one answer only, for example {lonely[0]!r}; "
                f"let {self.of} draw n: 2 or more"
            )
        journal = ctx.journal(Score, total=len(drawn))
        if len(journal.done) < len(drawn):
            self._compare(ctx, prompts, answers, journal)
        scores = {row.key: row for row in journal.rows() if isinstance(row, Score)}
        rows = [scores[t.key] for t in drawn]
        ctx.finish_rows(Score, iter(rows), truncated=sum(row.meta["truncated"] > 0 for row in rows))

    def _compare(
        self,
        ctx: StageContext,
        prompts: dict[str, Prompt],
        answers: dict[str, list[Trajectory]],
        journal: Any,
    ) -> None:
        import torch

        from itercli.training.likelihood import frozen_model
        from itercli.training.models import load_tokenizer
        from itercli.training.preference_model import answer_ids, prefers_first, question

        ref = ctx.models["model"]
        total = sum(map(len, answers.values()))
        torch.set_num_threads(self.threads)
        ctx.progress(len(journal.done), total, "answers", status=f"loading {ref.version}")
        tokenizer, model = load_tokenizer(ref), frozen_model(ref, self.dtype)
        ctx.progress(len(journal.done), total, "answers")
        try:
            letters = answer_ids(tokenizer)
        except ValueError as error:
            raise StageError(f"{ctx.name}: {ref.version} can't answer A or B: {error}") from error
        for prompt_id, group in answers.items():
            if journal.done.issuperset(t.key for t in group):
                continue
            rows: dict[tuple[int, int], list[int]] = {}
            lost = dict.fromkeys(range(len(group)), 0)
            for one, two in combinations(range(len(group)), 2):
                for first, second in ((one, two), (two, one)):
                    texts = (group[first].completion, group[second].completion)
                    try:
                        ids, cut = question(
                            tokenizer, prompts[prompt_id].messages, *texts, self.frame, self.max_length
                        )
                    except ValueError as error:
                        raise StageError(f"{ctx.name}: prompt {prompt_id!r}: {error}") from error
                    rows[first, second] = ids
                    lost = {i: max(n, cut) if i in (first, second) else n for i, n in lost.items()}
            wins: dict[tuple[int, int], float] = {}
            for batch in batches({key: len(ids) for key, ids in rows.items()}, self.batch_tokens):
                if ctx.stopping():
                    raise Interrupted
                wins.update(zip(batch, prefers_first(model, [rows[k] for k in batch], letters), strict=True))
            for i, t in enumerate(group):
                others = [j for j in range(len(group)) if j != i]
                means = [(wins[i, j] + 1 - wins[j, i]) / 2 for j in others]
                gaps = [abs(wins[i, j] - (1 - wins[j, i])) for j in others]
                if t.key not in journal.done:
                    journal.append(
                        carried(
                            Score(
                                prompt_id=prompt_id,
                                index=t.index,
                                completion=t.completion,
                                policy=t.policy,
                                value=fmean(means),
                                meta={
                                    "comparisons": len(others),
                                    "order_gap": fmean(gaps),
                                    "truncated": lost[i],
                                },
                            ),
                            t,
                        )
                    )
            ctx.progress(len(journal.done), total, "answers")

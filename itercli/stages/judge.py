"""Stage `judge`: the quality of texts in the eyes of another model."""

from __future__ import annotations

import json
from typing import Literal

from itercli.records import Prompt, Score, Trajectory
from itercli.registry import register
from itercli.stages.base import Link, StageContext
from itercli.stages.carrying import carried
from itercli.stages.jobs import GaveUp, Reject, Steps
from itercli.stages.judging import JudgeStage, clean, instruction, prompts_of, question, trajectories
from itercli.verifiers.rubrics import ANALYSIS, read_answer

RATE = """You review writing. A writer was given an instruction and wrote a text; rate the text.

{guard}

{task}

{text}

Rate these sides of the text, each with an integer from {low} (worst) to {high} (best):
{dimensions}

{strict} {blind}{more}

Think first: name the text's main strengths and weaknesses in two to four sentences. Then answer with one \
JSON object and nothing around it. Its keys, in this order: {keys}. "analysis" is your short analysis as a \
string, all others are integers."""


@register("stage", "judge")
class Judge(JudgeStage):
    """Rates every text; `value` is the mean rating, from 0 to 100.

    `meta` holds the dimensions and their `mean` on the rubric's scale, `message` the judge's
    analysis. Texts without a readable answer have no row: they are counted as "gave up" and
    listed in `missing.json`.
    """

    uses: Literal["judge"] = "judge"

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def run(self, ctx: StageContext) -> None:
        prompts, texts = prompts_of(ctx), trajectories(ctx.inputs["of"])

        def job(key: tuple[str, int], reject: Reject) -> Steps[Score]:
            return self._job(ctx, prompts[key[0]], texts[key], reject)

        rows, counts = self.judge(ctx, texts, job)
        ctx.finish_rows(Score, iter(rows), **counts)

    def _job(self, ctx: StageContext, prompt: Prompt, text: Trajectory, reject: Reject) -> Steps[Score]:
        rubric = self.rubric
        asked = question(
            RATE,
            rubric,
            ctx.seed,
            text.key,
            {"task": instruction(prompt), "text": text.completion},
            low=rubric.low,
            high=rubric.high,
            keys=", ".join(json.dumps(k) for k in (ANALYSIS, *rubric.dimensions)),
        )

        def parse(answer: str) -> tuple[dict[str, int], str]:
            found = read_answer(answer, next(iter(rubric.dimensions)))
            return rubric.ratings(found), clean(found.get(ANALYSIS))

        answered = yield from self.ask("rate", asked, rubric.answer_schema(), parse, reject)
        if isinstance(answered, GaveUp):
            return answered
        (ratings, analysis), tries = answered
        mean = sum(ratings.values()) / len(ratings)
        return carried(
            Score(
                prompt_id=text.prompt_id,
                index=text.index,
                completion=text.completion,
                policy=text.policy,
                value=rubric.percent(ratings),
                outcome="rated",
                message=analysis,
                answer=text.completion,
                meta={**ratings, "mean": mean, "tries": tries, "judge": ctx.models["judge"].version},
            ),
            text,
        )

"""Stage `judge_pairs`: which of two texts another model finds better, asked in both orders."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import Field

from itercli.records import Prompt, Score, Trajectory
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.carrying import carried
from itercli.stages.jobs import GaveUp, Reject, Steps
from itercli.stages.judging import JudgeStage, clean, instruction, prompts_of, question, trajectories
from itercli.verifiers.rubrics import ANALYSIS, Unreadable, answer_schema, read_answer

Verdict = Literal["first", "second", "tie"]
VERDICTS: tuple[Verdict, ...] = ("first", "second", "tie")

COMPARE = """You review writing. Two writers were given the same instruction; decide whose text is better.

{guard}

{task}

{first}

{second}

Weigh these sides of the texts:
{dimensions}

{blind}{more} The order of the texts is by chance and means nothing. Say "tie" only if you would not mind \
which one you got.

Think first: compare the texts in two to four sentences. Then answer with one JSON object and nothing \
around it. Its keys, in this order: "analysis", your short comparison as a string, and "better", which is \
"first", "second" or "tie"."""


@register("stage", "judge_pairs")
class JudgePairs(JudgeStage):
    """Compares texts pair by pair, in both orders; `value` is 1 for a win, 0.5 for a tie, 0 for a loss.

    A text wins only if it wins in both orders; where the orders disagree it is a tie. So the
    mean score is the win rate, ties counted half. Of the rubric only the dimensions count.
    Equal texts are a tie without a call.
    """

    uses: Literal["judge_pairs"] = "judge_pairs"
    against: str = Field(description="The stage with the texts that they are compared with, row by row.")

    def links(self, name: str) -> list[Link]:
        return [
            Link("of", self.of, ("trajectories",), "of"),
            Link("against", self.against, ("trajectories",), "against"),
        ]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["against"]
        return params

    def check(self) -> list[tuple[str, str, str]]:
        problems = super().check()
        if self.against.startswith("all."):
            problems.append(("against", "rows of several iterations have the same keys", "one stage"))
        if self.against == self.of:
            problems.append(("against", "the texts would be compared with themselves", "another stage"))
        return problems

    def run(self, ctx: StageContext) -> None:
        prompts, texts = prompts_of(ctx), trajectories(ctx.inputs["of"])
        others = trajectories(ctx.inputs["against"])
        pairs = [key for key in texts if key in others]
        if not others:
            raise StageError(
                f"{ctx.name}: {self.against} has no texts; the first iteration has a previous one only if "
                "a stage of that name is under `before:`"
            )
        if not pairs:
            raise StageError(f"{ctx.name}: {self.of} and {self.against} have no prompt and index in common")
        positions: Counter[str] = Counter()

        def job(key: tuple[str, int], reject: Reject) -> Steps[Score]:
            return self._job(ctx, prompts[key[0]], texts[key], others[key], reject)

        rows, counts = self.judge(ctx, pairs, job)
        for row in rows:
            counts[row.outcome] = counts.get(row.outcome, 0) + 1
            positions.update(row.meta["verdicts"])
        unpaired = len(texts.keys() ^ others.keys())
        counts |= {f"verdict: {v}": positions[v] for v in VERDICTS} | {"unpaired": unpaired}
        ctx.finish_rows(Score, iter(rows), **counts)

    def _job(
        self, ctx: StageContext, prompt: Prompt, text: Trajectory, other: Trajectory, reject: Reject
    ) -> Steps[Score]:
        verdicts: list[Verdict] = []
        analyses: list[str] = []
        tries = 0
        orders = [(text, other), (other, text)] if text.completion != other.completion else []
        for n, (first, second) in enumerate(orders):
            asked = question(
                COMPARE,
                self.rubric,
                ctx.seed,
                text.key,
                {"task": instruction(prompt), "first": first.completion, "second": second.completion},
            )
            schema = answer_schema({"better": {"type": "string", "enum": list(VERDICTS)}})
            answered = yield from self.ask(f"compare.{n + 1}", asked, schema, _verdict, reject)
            if isinstance(answered, GaveUp):
                return answered
            (verdict, analysis), calls = answered
            verdicts.append(verdict)
            analyses.append(analysis)
            tries += calls
        won, lost = verdicts == ["first", "second"], verdicts == ["second", "first"]
        return carried(
            Score(
                prompt_id=text.prompt_id,
                index=text.index,
                completion=text.completion,
                policy=text.policy,
                value=1.0 if won else 0.0 if lost else 0.5,
                outcome="win" if won else "loss" if lost else "tie",
                message="\n\n".join(f"order {n}: {a}" for n, a in enumerate(analyses, 1)),
                answer=text.completion,
                meta={
                    "verdicts": verdicts,
                    "against": other.policy,
                    "tries": tries,
                    "judge": ctx.models["judge"].version,
                },
            ),
            text,
        )


def _verdict(answer: str) -> tuple[Verdict, str]:
    found = read_answer(answer, "better")
    for verdict in VERDICTS:
        if found["better"] == verdict:
            return verdict, clean(found.get(ANALYSIS))
    raise Unreadable("not a verdict", f"'better' is none of {', '.join(VERDICTS)}")

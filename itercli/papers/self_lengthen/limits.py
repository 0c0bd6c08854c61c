"""The final data set: instructions that name a length, with texts that keep to it.

The loop never speaks of length; this is done once, after it. The limit is made from the
text, so every example is right by construction: its words are rounded, a kind of limit is
drawn, and a model weaves it into the instruction. What the model wrote is read back: it
must state this limit and no other. Order, shares and rounding follow the released code,
eval/add_length_control.py of QwenLM/Self-Lengthen, with its defects mended: one-sided limits
are above the lower and below the upper multiple in both languages, and a text of exactly N
words is in the range from N to the next multiple instead of N to N.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator

from itercli.papers.self_lengthen.limit_text import Stated, chinese_numeral, read
from itercli.papers.self_lengthen.weave import appended, fault, question, unwrapped
from itercli.papers.self_lengthen.wording import Language
from itercli.recipe.seeds import seed_for
from itercli.records import Message, Prompt, RankedExample, Trajectory
from itercli.registry import register
from itercli.stages.base import Link, ModelLink, StageContext, StageError
from itercli.stages.jobs import Ask, GaveUp, JobStage, Reject, Steps
from itercli.verifiers.length import Kind, LengthLimit, longgen_score
from itercli.verifiers.words import longgen_words


@register("stage", "self_lengthen.limits")
class Limits(JobStage):
    """Makes supervised examples (limited instruction, text); one job per text.

    Which limits there are, and how each got into its instruction, is in `limits.json`.
    """

    OUTPUT = "examples"
    WITH_PROMPTS = True

    uses: Literal["self_lengthen.limits"] = "self_lengthen.limits"
    of: tuple[str, ...] = Field(min_length=1, description="Stages with texts, for example all.extend.")
    role: str = Field(description="Who weaves the limit into the instruction.")
    language: Language = "en"
    low: int = Field(2000, ge=1, description="Least words of a text.")
    high: int = Field(8000, ge=2, description="Texts have fewer words than this.")
    steps: dict[int, float] = Field(
        {1000: 0.8, 2000: 0.2}, min_length=1, description="Limits are multiples of this (words): share."
    )
    kinds: dict[Kind, float] = Field(
        {"about": 0.4, "range": 0.25, "above": 0.1, "below": 0.25},
        min_length=1,
        description="Kind of limit: share, among those that the text keeps.",
    )
    numerals: float = Field(0.5, ge=0, le=1, description="Share of limits in Chinese numerals (zh).")
    tries: int = Field(3, ge=1, description="Tries to have it woven in.")
    keeps: float = Field(
        0.6, ge=0, le=1, description="Share of the instruction's content words that must remain."
    )
    longest: float = Field(2.0, gt=1, description="Longest rewritten instruction: times the old one, + 100.")
    on_failure: Literal["template", "drop"] = Field(
        "template", description="After the last try: append a fixed sentence, or drop the text."
    )

    @field_validator("steps", "kinds")
    @classmethod
    def _shares(cls, shares: dict[Any, float]) -> dict[Any, float]:
        if min(shares.values()) < 0 or sum(shares.values()) <= 0 or any(k == 0 for k in shares):
            raise ValueError("shares must not be negative, and some must be above 0")
        return shares

    def links(self, name: str) -> list[Link]:
        return [Link("of", ref, ("trajectories",), "of") for ref in self.of]

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"], params["role"]
        return params

    def check(self) -> list[tuple[str, str, str]]:
        if self.low >= self.high:
            return [("low", f"no text has {self.low} words or more and fewer than {self.high}", "low < high")]
        return []

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        texts, counts = self._texts(ctx)
        woven: dict[str, dict[str, Any]] = {}
        jobs = {
            i: lambda reject, i=i, t=t: self._job(ctx, i, prompts[t.prompt_id], t, woven, reject)
            for i, t in texts.items()
        }
        made = self.run_jobs(ctx, jobs, "examples")
        if not made.rows:
            raise StageError(
                f"{ctx.name}: no example was made: {dict(counts) | made.counts}; set low, high and "
                "steps to what the texts have, or on_failure: template"
            )
        ways = Counter(f"woven by: {woven[i]['by']}" for i in made.rows)
        ctx.finish_file("limits.json", {i: woven[i] for i in made.rows})
        ctx.finish_rows(RankedExample, iter(made.rows.values()), **counts, **ways, **made.counts)

    def _texts(self, ctx: StageContext) -> tuple[dict[str, Trajectory], Counter[str]]:
        """Texts of a fitting length by job id, shuffled: `quota` takes some of every iteration."""
        texts: dict[str, Trajectory] = {}
        counts: Counter[str] = Counter()
        seen: set[tuple[str, str]] = set()
        for artifact in ctx.inputs["of"]:
            for drawn in artifact.rows(Trajectory):
                if not self.low <= longgen_words(drawn.completion) < self.high:
                    counts["left out: length"] += 1
                elif (drawn.prompt_id, drawn.completion) in seen:
                    counts["left out: duplicate"] += 1
                else:
                    # Drafts and extensions of one instruction have the same prompt and index.
                    texts[f"{artifact.label}/{drawn.prompt_id}.{drawn.index}"] = drawn
                seen.add((drawn.prompt_id, drawn.completion))
        order = sorted(texts)
        random.Random(ctx.seed).shuffle(order)
        return {i: texts[i] for i in order}, counts

    def _job(
        self,
        ctx: StageContext,
        job_id: str,
        prompt: Prompt,
        drawn: Trajectory,
        woven: dict[str, dict[str, Any]],
        reject: Reject,
    ) -> Steps[RankedExample]:
        rng = random.Random(seed_for(ctx.seed, "limit", job_id))
        words = longgen_words(drawn.completion)
        possible = list(self._possible(words))
        if not possible:
            return GaveUp("no limit fits")
        limit, step = rng.choices([p[:2] for p in possible], [p[2] for p in possible])[0]
        assert longgen_score(words, limit) == 1
        stated = Stated.of(limit)
        numerals = self.language == "zh" and rng.random() < self.numerals
        query = prompt.messages[-1].content
        limited, by, tries = "", "model", 0
        while not limited and tries < self.tries:
            tries += 1
            ask = question(query, stated, self.language, rng, numerals=numerals)
            call = yield Ask("weave", ask, self.params())
            answer = unwrapped(call.completion)
            wrong = fault(query, answer, stated, self.language, keeps=self.keeps, longest=self.longest)
            if wrong := "cut by max_new_tokens" if call.finish != "stop" else wrong:
                reject(wrong)
            else:
                limited = answer
        if not limited:
            if self.on_failure == "drop":
                return GaveUp("not woven in")
            if read(query, self.language):
                return GaveUp("not woven in, and the instruction names another length")
            by = "template"
            limited = appended(query, stated, self.language, rng, numerals=numerals)
        woven[job_id] = {
            "limit": limit.model_dump(exclude_none=True),
            "step": step,
            "words": words,
            "by": by,
            "tries": tries,
            "chinese_numerals": any(chinese_numeral(n) in limited for n in stated.numbers),
        }
        return RankedExample(
            prompt_id=job_id,
            messages=[*prompt.messages[:-1], Message(role="user", content=limited)],
            responses=[drawn.completion],
            scores=[1.0],
            target=0,
            sources=[drawn.policy],
            finish=[drawn.finish],
            generated=[drawn.generated],
        )

    def _possible(self, words: int) -> Iterator[tuple[LengthLimit, int, float]]:
        """Limits that a text of so many words keeps, with their step and weight.

        Drawing among these, instead of drawing first, keeps a coarse step from asking for 2,000
        words where the text has 2,900.
        """
        for step, share in self.steps.items():
            floor = words // step * step
            ceiling = floor + step  # strictly above, so that a text of N words is "less than" it
            ends = {
                "about": {"n": (words + step // 2) // step * step},
                "range": {"low": max(floor, self.low), "high": min(ceiling, self.high)},
                "above": {"n": floor if floor < words else 0},
                "below": {"n": ceiling},
            }
            for kind, weight in self.kinds.items():
                if weight * share > 0 and min(ends[kind].values()) > 0:
                    limit = LengthLimit(kind=kind, **ends[kind])
                    if longgen_score(words, limit) == 1:
                        yield limit, step, weight * share

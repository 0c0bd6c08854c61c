"""Step 0: new instructions, invented by the base model and kept if it finds them suitable."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from itercli.papers.self_lengthen.wording import WORDING, Language
from itercli.recipe.seeds import seed_for
from itercli.records import Message, Prompt
from itercli.registry import register
from itercli.stages.base import Link, ModelLink, StageContext, StageError
from itercli.stages.jobs import Ask, GaveUp, JobStage, Reject, Steps
from itercli.stages.prompts import inline
from itercli.verifiers.words import longgen_words


@register("stage", "self_lengthen.propose")
class Propose(JobStage):
    """Makes `n` instructions from pairs of seed instructions.

    The model's turn is opened with a numbered list of two seeds and left at the third item;
    a second call asks whether the result suits a long article. Two differences to the released
    code: pairs come from the seeds only (its `qwen` variant adds what was accepted), so an
    instruction does not depend on which others were finished before it; and the answer to the
    question is opened, because small models chat instead of answering.
    """

    OUTPUT = "prompts"

    uses: Literal["self_lengthen.propose"] = "self_lengthen.propose"
    role: str = Field(description="Role that invents instructions; the paper uses the bare base.")
    judge: str | None = Field(None, description="Role that answers the suitability question; none: `role`.")
    seeds: str | dict[str, Any] = Field(description="A `prompts` stage, or a source in place.")
    n: int = Field(ge=1, description="Instructions to make.")
    language: Language = "en"
    tries: int = Field(10, ge=1, description="Tries per instruction.")
    words: tuple[int, int] = Field((3, 500), description="Length of an instruction: above, below (words).")
    suits: int = Field(2000, ge=0, description="Words an article on it should bear; 0 does not ask.")
    distinct: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Drop what is this similar to an earlier one (Jaccard of words); 1: off.",
    )

    def links(self, name: str) -> list[Link]:
        return [Link("seeds", inline(self.seeds, name)[0], ("prompts",), "seeds")]

    def children(self, name: str) -> dict[str, dict[str, Any]]:
        return inline(self.seeds, name)[1]

    def model_links(self) -> list[ModelLink]:
        return [
            ModelLink("policy", self.role, "current"),
            ModelLink("judge", self.judge or self.role, "current", key="judge"),
        ]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["seeds"], params["role"], params["judge"]
        return params

    def run(self, ctx: StageContext) -> None:
        seeds = [p for a in ctx.inputs["seeds"] for p in a.rows(Prompt)]
        if len(seeds) < 2:
            raise StageError(f"{ctx.name}: two seed instructions are shown at a time, there is {len(seeds)}")
        jobs = {
            f"i{ctx.iteration}/{i:05d}": lambda reject, i=i: self._job(ctx, seeds, i, reject)
            for i in range(self.n)
        }
        made = self.run_jobs(ctx, jobs, "instructions")
        counts: Counter[str] = Counter(made.counts)
        kept: list[Prompt] = []
        shown = [self._units(p) for p in seeds]
        for prompt in made.rows.values():
            words = self._units(prompt)
            if self.distinct < 1 and any(_jaccard(words, other) >= self.distinct for other in shown):
                counts["duplicates"] += 1
            else:
                kept.append(prompt)
                shown.append(words)
        if not kept:
            raise StageError(f"{ctx.name}: no instruction was kept: {dict(counts)}; raise n or tries")
        ctx.finish_rows(Prompt, iter(kept), **counts)

    def _job(self, ctx: StageContext, seeds: Sequence[Prompt], number: int, reject: Reject) -> Steps[Prompt]:
        wording = WORDING[self.language]
        rng = random.Random(seed_for(ctx.seed, "pairs", number))
        for attempt in range(1, self.tries + 1):
            pair = rng.sample(seeds, 2)
            opened = wording.items.format(first=_text(pair[0]), second=_text(pair[1]))
            turns = (
                Message(role="user", content=wording.propose),
                Message(role="assistant", content=opened),
            )
            params = self.params(stop=(*self.stop, *wording.next_item))
            call = yield Ask("propose", turns, params, continue_final=True)
            text = call.completion.strip()
            if call.finish != "stop":
                reject("cut by max_new_tokens")
                continue
            if not self.words[0] < longgen_words(text) < self.words[1]:
                reject("too short or too long")
                continue
            if self.suits:
                question = wording.suitable.format(words=self.suits, instruction=text)
                turns = (
                    Message(role="user", content=question),
                    Message(role="assistant", content=wording.answer),
                )
                params = self.params(max_new_tokens=4, stop=())
                answer = yield Ask("suitable", turns, params, "judge", continue_final=True)
                if not re.match(rf"\W*{wording.yes}\b", answer.completion, re.IGNORECASE):
                    reject("not suitable")
                    continue
            return Prompt(
                id=f"i{ctx.iteration}/{number:05d}",
                messages=[Message(role="user", content=text)],
                meta={"language": self.language, "seeds": [p.id for p in pair], "tries": attempt},
            )
        return GaveUp("no instruction")

    def _units(self, prompt: Prompt) -> frozenset[str]:
        """Words, or characters where a script has no spaces."""
        return frozenset(_text(prompt) if self.language == "zh" else _text(prompt).casefold().split())


def _text(prompt: Prompt) -> str:
    return prompt.messages[-1].content


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / max(1, len(a | b))

"""Step 2: the two-stage extension of a draft, in several micro-steps.

A micro-step on text x: stage A enriches the first half of x alone, so that the model writes
more than it would have room for at once; stage B is asked to enrich the whole of x while its
answer is already opened with A. The candidate A + B replaces x if it passes the check and is
longer.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from itercli.papers.self_lengthen.respond import rejections
from itercli.papers.self_lengthen.wording import WORDING, Language
from itercli.recipe.seeds import seed_for
from itercli.records import Message, Prompt, Trajectory
from itercli.registry import register
from itercli.stages.base import Link, ModelLink, StageContext
from itercli.stages.jobs import Ask, GaveUp, JobStage, Reject, Steps
from itercli.verifiers.text_check import Check
from itercli.verifiers.words import longgen_words

# Splits before the space that follows a sentence, so that nothing is lost.
SENTENCES = re.compile(r"(?<=[.!?])(?= )|(?<=[。！？])(?!$)")


@register("stage", "self_lengthen.extend")
class Extend(JobStage):
    """Extends every draft in `n` independent jobs.

    Rows keep the draft and each micro-step of the successful try in `meta`: the half that
    stage A saw, A, B, words, ratio, failed checks and whether the candidate was taken.
    """

    OUTPUT = "trajectories"
    WITH_PROMPTS = True

    uses: Literal["self_lengthen.extend"] = "self_lengthen.extend"
    role: str = Field(description="The extender.")
    of: str = Field(description="The stage with the drafts.")
    n: int = Field(2, ge=1, description="Jobs per draft.")
    micro_steps: int = Field(3, ge=1, description="Micro-steps of a try.")
    growth: float = Field(1.2, ge=1, description="A job succeeds above this ratio of words to the draft's.")
    tries: int = Field(20, ge=1, description="Tries per job.")
    language: Language = "en"
    accept: Check = Field(description="Language or rules that a candidate must pass.")
    finished: bool = Field(True, description="Turn down candidates cut by max_new_tokens.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"], params["role"]
        return params

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        drafts = [t for a in ctx.inputs["of"] for t in a.rows(Trajectory)]
        jobs = {
            f"{d.prompt_id}#{d.index}.{j}": lambda reject, d=d, j=j: self._job(
                ctx, prompts[d.prompt_id], d, j, reject
            )
            for d in drafts
            for j in range(self.n)
        }
        made = self.run_jobs(ctx, jobs, "extensions")
        ctx.finish_rows(Trajectory, iter(made.rows.values()), **made.counts)

    def _job(
        self, ctx: StageContext, prompt: Prompt, draft: Trajectory, job: int, reject: Reject
    ) -> Steps[Trajectory]:
        start, tokens = longgen_words(draft.completion), 0
        for attempt in range(1, self.tries + 1):
            text, words = draft.completion, start
            steps: list[dict[str, Any]] = []
            for _ in range(self.micro_steps):
                half = first_half(text)
                turns = extend_request(self.language, prompt, half)
                a = yield Ask("extend.a", turns, self.params())
                opened = first_paragraphs(a.completion)
                turns = extend_request(self.language, prompt, text)
                if opened:  # one paragraph leaves nothing to open the answer with
                    turns = (*turns, Message(role="assistant", content=opened))
                b = yield Ask("extend.b", turns, self.params(), continue_final=bool(opened))
                tokens += a.tokens + b.tokens
                candidate = opened + b.completion
                longer = longgen_words(candidate)
                failed = rejections(self.accept, candidate, b.finish, self.finished)
                if longer <= words:
                    failed = (*failed, "not_longer")
                for name in failed:
                    reject(name)
                steps.append(
                    {
                        "half": half,
                        "a": opened,
                        "b": b.completion,
                        "words_before": words,
                        "words": longer,
                        "ratio": round(longer / max(1, words), 3),
                        "failed": list(failed),
                        "taken": not failed,
                    }
                )
                if not failed:
                    text, words = candidate, longer
            if words > self.growth * start:
                return Trajectory(
                    prompt_id=prompt.id,
                    index=draft.index * self.n + job,
                    seed=seed_for(ctx.seed, f"{prompt.id}#{draft.index}.{job}"),
                    completion=text,
                    finish="stop",
                    tokens=tokens,
                    policy=a.policy,
                    meta={
                        "draft": draft.completion,
                        "draft_index": draft.index,
                        "draft_words": start,
                        "words": words,
                        "ratio": round(words / max(1, start), 3),
                        "tries": attempt,
                        "steps": steps,
                    },
                )
            reject("try: too little growth")
        return GaveUp("too little growth")


def extend_request(language: Language, prompt: Prompt, draft: str) -> tuple[Message, ...]:
    """What the extender is asked, in sampling and in training alike: system turns stay."""
    text = WORDING[language].extend.format(instruction=prompt.messages[-1].content, draft=draft)
    return (*[m for m in prompt.messages if m.role == "system"], Message(role="user", content=text))


def split_text(text: str) -> tuple[list[str], str]:
    """A text's parts and what separates them: the separator joins the parts to the same text.

    Paragraphs; lines where there are at most two paragraphs. Sentences where there is but one
    line: the released code would have stage A enrich nothing there.
    """
    for separator in ("\n\n", "\n"):
        parts = text.split(separator)
        if len(parts) > 2:
            return parts, separator
    sentences = SENTENCES.split(text)
    return (sentences, "") if len(parts) == 1 < len(sentences) else (parts, "\n")


def first_half(text: str) -> str:
    """The first ⌊n/2⌋ parts of a text; paragraphs and lines are joined by blank lines."""
    parts, separator = split_text(text)
    joint = "\n\n" if "\n" in separator else separator
    return joint.join(parts[: len(parts) // 2])


def first_paragraphs(text: str) -> str:
    """The first ⌊2m/3⌋ paragraphs: without the last third, no ending is carried over."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(paragraphs[: 2 * len(paragraphs) // 3])

"""ITERTL (arXiv 2407.12022): sample from the newest model, score with EDA tools, train on it, repeat.

What the paper adds to RTLCoder is the loop: candidates of iteration t come from the model of
iteration t-1 instead of from a fixed set. Its scoring rule, loss coefficients and K are not
published in what was available to us; the defaults here are RTLCoder's, each a field. The
loss itself is `itercli.training.methods.Ranking`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

import itercli.papers.baselines  # noqa: F401  (registers the selectors that ITERTL is compared with)
from itercli.papers.rtlcoder_score import Quality, parse, quality
from itercli.recipe.fields import Scorer as ScorerField
from itercli.records import Prompt, RankedExample, Record, Score, Trajectory
from itercli.registry import Component, register
from itercli.stages.selectors import Dropped, Selector
from itercli.verifiers.base import Judge, Scorer
from itercli.verifiers.verilog_extract import extract
from itercli.verifiers.verilog_filter import self_contained
from itercli.verifiers.verilog_rules import refusal


@register("scorer", "itertl.quality")
class QualityScorer(Scorer):
    """RTLCoder's quality score, beside the verdict of a functional verifier.

    The score ranks candidates; `passed` and `outcome` come from the verifier, so that own
    samples that pass can be targets. What breaks the verifier's rules (it prints a verdict,
    ends the simulation ...) scores 0.
    """

    VERSION: ClassVar[int] = 2

    score_rule: Literal["quality", "functional", "mixed"] = Field(
        "quality", description="quality: syntax; functional: the verifier's score; mixed: their mean."
    )
    verify: bool = Field(True, description="Also run the functional verifier.")
    verifier: ScorerField = Field("functional", description="The functional verifier.")
    stub_score: float = Field(0.01, ge=0, le=1, description="Score of a module that parses but does nothing.")
    no_reference_score: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Score of what does not parse if there is no reference.",
    )

    @model_validator(mode="after")
    def _needs_verifier(self) -> QualityScorer:
        if self.score_rule != "quality" and not self.verify:
            raise ValueError(f"score_rule: {self.score_rule} needs verify: true")
        return self

    def parts(self) -> Iterator[tuple[str, Component]]:
        """The verifier, if it is asked; what it needs of the rows is checked with it."""
        return super().parts() if self.verify else iter(())

    def leaves_open(self) -> tuple[str, ...]:
        """Without a verifier nothing tells right from wrong."""
        return self.verifier.leaves_open() if self.verify else ("Score.passed",)

    def open(self) -> Judge:
        """Make the judge; see `Scorer.open`."""
        return _QualityJudge(self, self.verifier.open() if self.verify else None)

    def fingerprint(self) -> dict[str, str]:
        """Versions of the parser and of the verifier's tools."""
        from importlib.metadata import version

        return {"pyslang": version("pyslang")} | (self.verifier.fingerprint() if self.verify else {})


class _QualityJudge:
    def __init__(self, spec: QualityScorer, verifier: Judge | None) -> None:
        self.spec, self.verifier = spec, verifier

    def score(self, prompt: Prompt, trajectory: Trajectory) -> Score:
        header, top = prompt.meta.get("header", ""), prompt.meta.get("top", "top_module")
        if self.verifier is not None:
            row = self.verifier.score(prompt, trajectory)
            refused = row.message if row.outcome == "refused" else None
        else:
            answer = extract(trajectory.completion, header, top)
            refused = refusal(answer, top=top)
            row = Score(
                prompt_id=trajectory.prompt_id,
                index=trajectory.index,
                completion=trajectory.completion,
                policy=trajectory.policy,
                value=0.0,
                answer=answer,
            )
        found = self._quality(row.answer, prompt.reference, refused)
        value = {
            "quality": found.value,
            "functional": row.value,
            "mixed": (found.value + row.value) / 2,
        }[self.spec.score_rule]
        return row.model_copy(
            update={
                "value": value,
                "outcome": row.outcome or found.kind,
                "message": row.message or found.message,
                "meta": row.meta | {"quality": found.value, "quality_kind": found.kind},
            }
        )

    def _quality(self, answer: str, reference: str | None, refused: str | None) -> Quality:
        if refused is not None:
            return Quality("bad", 0.0, refused)
        return quality(
            answer,
            reference,
            stub_score=self.spec.stub_score,
            no_reference_score=self.spec.no_reference_score,
        )

    def close(self) -> None:
        if self.verifier is not None:
            self.verifier.close()


@register("selector", "itertl.ranking")
class RankingSelector(Selector):
    """Scored candidates of each prompt, with the response whose likelihood is raised.

    As in RTLCoder the reference comes last and has score 1. With `targets: verified` no
    reference enters the loss: the target is one of the model's own samples that passed the
    verifier, drawn at random among the distinct ones (the shortest would teach the model to
    be short), with a seed per prompt, so that other prompts do not change the draw.
    """

    EXAMPLES: ClassVar[type[Record]] = RankedExample
    VERSION: ClassVar[int] = 2

    targets: Literal["reference", "verified", "reference_or_verified"] = Field(
        "reference",
        description="Whose likelihood is raised: the reference, an own sample that passed, or the "
        "reference where there is one and else an own sample.",
    )
    keep_targetless: bool = Field(False, description="Keep prompts without a target, for ranking only.")
    deduplicate: bool = Field(True, description="Drop candidates equal to an earlier one or the reference.")
    filter_self_contained: bool = Field(
        False,
        description="The paper's filter: drop candidates and references that are no self-contained module.",
    )
    max_candidates: int | None = Field(None, ge=0, description="Own samples per prompt; the target is kept.")
    text: Literal["completion", "answer"] = Field(
        "completion", description="Train on what the model wrote, or on the code extracted from it."
    )
    reference_score: float = Field(1.0, description="Score of the reference.")

    def needs(self) -> tuple[str, ...]:
        """What its targets come from."""
        if self.keep_targetless:
            return ()
        known = {"reference": ("Prompt.reference",), "verified": ("Score.passed",)}
        return known.get(self.targets, ())

    def select(
        self, groups: Iterable[tuple[Prompt, list[Score]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """One example per prompt; see `Selector.select`."""
        seed = rng.getrandbits(64)
        for prompt, scores in groups:
            yield from self._prompt(prompt, scores, random.Random(f"{seed}/{prompt.id}"))

    def _prompt(self, prompt: Prompt, scores: list[Score], rng: random.Random) -> Iterator[Record | Dropped]:
        reference = prompt.reference if self.targets != "verified" else None
        if reference is not None and (reason := self._not_self_contained(prompt, reference)):
            yield Dropped(prompt.id, None, f"reference: {reason}")
            reference = None
        candidates: list[Score] = []
        seen = {reference.strip()} if reference is not None else set()
        for score in sorted(scores, key=lambda s: s.index):
            text = self._text(score).strip()
            if not text:
                yield Dropped(prompt.id, score.index, "empty")
            elif self.deduplicate and text in seen:
                yield Dropped(prompt.id, score.index, "duplicate")
            elif reason := self._not_self_contained(prompt, score.answer or score.completion):
                yield Dropped(prompt.id, score.index, reason)
            else:
                candidates.append(score)
            seen.add(text)
        target = None
        if reference is None and self.targets != "reference":
            passed = [c for c in candidates if c.passed]
            target = rng.choice(passed) if passed else None
        if reference is None and target is None and not self.keep_targetless:
            yield Dropped(prompt.id, None, "no_reference" if self.targets == "reference" else "none_verified")
            return
        if self.max_candidates is not None:
            room = self.max_candidates - (target is not None)
            kept = {c.index for c in [c for c in candidates if c is not target][: max(0, room)]}
            candidates = [c for c in candidates if c is target or c.index in kept]
        if reference is None and target is None and len(candidates) < 2:
            yield Dropped(prompt.id, None, "nothing_to_rank")
            return
        yield self._example(prompt, candidates, reference, target)

    def _example(
        self, prompt: Prompt, candidates: list[Score], reference: str | None, target: Score | None
    ) -> RankedExample:
        last = [] if reference is None else [reference]
        index = next((i for i, c in enumerate(candidates) if c is target), None)
        return RankedExample(
            prompt_id=prompt.id,
            messages=prompt.messages,
            responses=[self._text(c) for c in candidates] + last,
            scores=[c.value for c in candidates] + [self.reference_score] * len(last),
            target=len(candidates) if last else index,
            sources=[c.policy for c in candidates] + ["reference"] * len(last),
        )

    def _text(self, score: Score) -> str:
        return score.answer if self.text == "answer" else score.completion

    def _not_self_contained(self, prompt: Prompt, code: str) -> str | None:
        if not self.filter_self_contained:
            return None
        header, top = prompt.meta.get("header", ""), prompt.meta.get("top", "top_module")
        code = extract(code, header, top)
        # Parsed here first: it refuses text that would make the filter's parser run away.
        standing = parse(code)[0] == "good" and not self_contained(code, header, top)
        return None if standing else "not_self_contained"

"""Selectors that every iterated method is compared with: references alone, and best-of-n."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import ClassVar

from pydantic import Field

from itercli.records import Prompt, RankedExample, Record, Score
from itercli.registry import register
from itercli.stages.selectors import Dropped, Selector


@register("selector", "references")
class References(Selector):
    """The references alone, whatever was sampled: plain supervised fine-tuning."""

    EXAMPLES: ClassVar[type[Record]] = RankedExample
    NEEDS: ClassVar[tuple[str, ...]] = ("Prompt.reference",)

    def select(
        self, groups: Iterable[tuple[Prompt, list[Score]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """One example per prompt with a reference."""
        for prompt, _ in groups:
            if prompt.reference is None:
                yield Dropped(prompt.id, None, "no_reference")
            else:
                yield single(prompt, prompt.reference, 1.0, "reference")


@register("selector", "best")
class Best(Selector):
    """Rejection sampling: the best completions of each prompt, to be imitated.

    Source: the selection step of RAFT (Dong et al. 2023) and of STaR-like loops.
    """

    EXAMPLES: ClassVar[type[Record]] = RankedExample

    n: int = Field(1, ge=1, description="Distinct completions per prompt at most.")
    require_passed: bool = Field(True, description="Only completions that the verifier passed.")
    min_value: float | None = Field(None, description="Only scores of at least this.")

    def needs(self) -> tuple[str, ...]:
        """With `require_passed`, verdicts."""
        return ("Score.passed",) if self.require_passed else ()

    def select(
        self, groups: Iterable[tuple[Prompt, list[Score]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """Up to `n` examples per prompt; equal scores go by sample index."""
        for prompt, scores in groups:
            good = [s for s in scores if self._good(s)]
            distinct = {s.completion: s for s in sorted(good, key=lambda s: (s.value, -s.index))}
            best = sorted(distinct.values(), key=lambda s: (-s.value, s.index))[: self.n]
            if not best:
                yield Dropped(prompt.id, None, "none_good_enough")
            for score in best:
                yield single(prompt, score.completion, score.value, score.policy)

    def _good(self, score: Score) -> bool:
        if self.require_passed and not score.passed:
            return False
        return self.min_value is None or score.value >= self.min_value


def single(prompt: Prompt, response: str, score: float, source: str) -> RankedExample:
    """An example with one response, which is the target."""
    return RankedExample(
        prompt_id=prompt.id,
        messages=prompt.messages,
        responses=[response],
        scores=[score],
        target=0,
        sources=[source],
    )

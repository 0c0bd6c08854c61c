"""Step 3: what the two roles learn from an extension, and the baseline without an extender."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import ClassVar

from pydantic import Field

from itercli.papers.self_lengthen.extend import extend_request
from itercli.papers.self_lengthen.wording import WORDING, Language
from itercli.records import Message, Prompt, RankedExample, Record, Trajectory
from itercli.registry import register
from itercli.stages.selectors import Dropped, Selector


class TrajectorySelector(Selector):
    """A selector of texts rather than of scores."""

    EXAMPLES: ClassVar[type[Record]] = RankedExample
    ROWS: ClassVar[type[Record]] = Trajectory


@register("selector", "self_lengthen.generator")
class GeneratorPairs(TrajectorySelector):
    """Instruction -> extended text: the generator learns to write the long text at once."""

    def select(
        self, groups: Iterable[tuple[Prompt, list[Trajectory]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """One example per extension."""
        for prompt, texts in groups:
            if not texts:
                yield Dropped(prompt.id, None, "no_extension")
            for text in texts:
                yield example(prompt, prompt.messages, text)


@register("selector", "self_lengthen.extender")
class ExtenderPairs(TrajectorySelector):
    """Extension request on a thinned draft -> extended text, in one step.

    Lines of the draft are kept with probability `keep_lines`, so that the extender learns to
    fill in, not to copy; the two stages of the extension are never targets themselves.
    """

    language: Language = "en"
    keep_lines: float = Field(0.8, gt=0, le=1, description="Chance of a draft's line to stay.")

    def select(
        self, groups: Iterable[tuple[Prompt, list[Trajectory]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """One example per extension."""
        for prompt, texts in groups:
            if not texts:
                yield Dropped(prompt.id, None, "no_extension")
            for text in texts:
                draft = self._thin(text.meta["draft"], rng)
                yield example(prompt, list(extend_request(self.language, prompt, draft)), text)

    def _thin(self, draft: str, rng: random.Random) -> str:
        lines = draft.split("\n")
        kept = [line for line in lines if rng.random() < self.keep_lines]
        # An empty draft would ask for an answer from nothing.
        return WORDING[self.language].line_break.join(kept) if any(map(str.strip, kept)) else draft


@register("selector", "self_lengthen.longest")
class Longest(TrajectorySelector):
    """Best-of-n by length: the comparison with the same budget and no extender."""

    n: int = Field(1, ge=1, description="Longest distinct answers to keep per instruction.")

    def select(
        self, groups: Iterable[tuple[Prompt, list[Trajectory]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """Up to `n` examples per instruction; equal lengths go by sample index."""
        for prompt, texts in groups:
            if not texts:
                yield Dropped(prompt.id, None, "no_answer")
            distinct = {t.completion: t for t in reversed(texts)}.values()
            for text in sorted(distinct, key=lambda t: (-len(t.completion), t.index))[: self.n]:
                yield example(prompt, prompt.messages, text)


def example(prompt: Prompt, messages: list[Message], text: Trajectory) -> RankedExample:
    """An example whose only response, and target, is the text."""
    return RankedExample(
        prompt_id=prompt.id,
        messages=messages,
        responses=[text.completion],
        scores=[1.0],
        target=0,
        sources=[text.policy],
    )

"""The selector protocol: scored completions in, training examples out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from itercli.records import Prompt, Record, Score
from itercli.registry import Component


@dataclass(frozen=True, slots=True)
class Dropped:
    """A prompt, or one of its completions (`index`), that was left out, and why."""

    prompt_id: str
    index: int | None
    reason: str


class Selector(Component):
    """Builds examples of type `EXAMPLES` from prompts with their scored completions."""

    EXAMPLES: ClassVar[type[Record]]

    def select(
        self, groups: Iterable[tuple[Prompt, list[Score]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """Yield examples and what was dropped, in the order of the prompts."""
        raise NotImplementedError

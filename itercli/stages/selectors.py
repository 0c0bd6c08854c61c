"""The selector protocol: completions in, scored or not; training examples out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from itercli.records import Prompt, Record, Score
from itercli.registry import Component


@dataclass(frozen=True, slots=True)
class Dropped:
    """A prompt, or one of its completions (`index`), that was left out, and why."""

    prompt_id: str
    index: int | None
    reason: str


class Selector(Component):
    """Builds examples from prompts with their completions.

    Class attributes:
        EXAMPLES: What it builds.
        ROWS: What it reads for each prompt: `Score`, or `Trajectory` where no score is needed.
    """

    NEEDS_EVERY: ClassVar[bool] = False
    EXAMPLES: ClassVar[type[Record]]
    ROWS: ClassVar[type[Record]] = Score

    def select(
        self, groups: Iterable[tuple[Prompt, list[Any]]], *, rng: random.Random
    ) -> Iterator[Record | Dropped]:
        """Yield examples and what was dropped, in the order of the prompts.

        Args:
            groups: Each prompt with its rows of type `ROWS`.
        """
        raise NotImplementedError

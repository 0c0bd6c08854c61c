"""What of a long episode the policy still sees: the opening always, and the newest turns that fit.

Turns are left out oldest first, action and observation together; the newest one stays, since
without its observation the policy would not know where it is. A prompt that is too long even
then is the sampler's to refuse, and ends the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from itercli.records import Message, Turn

Count = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class Window:
    """How long a prompt may be.

    Attributes:
        turns: Turns at most; None is no limit.
        tokens: Tokens of the whole prompt at most, as `count` counts them; None is no limit.
    """

    turns: int | None = None
    tokens: int | None = None
    count: Count = len

    def fit(self, opening: Sequence[Message], turns: Sequence[Turn]) -> tuple[tuple[Message, ...], int]:
        """The prompt of the next turn.

        Args:
            opening: The conversation before the first action.
            turns: All turns so far.

        Returns:
            (messages, how many of the oldest turns are left out).
        """
        # What was left out before is not tried again: prompts only get longer.
        left_out = turns[-1].left_out if turns else 0
        if self.turns is not None:
            left_out = max(left_out, len(turns) - self.turns)
        while True:
            messages = (*opening, *dialogue(turns[left_out:]))
            if self.tokens is None or left_out >= len(turns) - 1 or self.count(messages) <= self.tokens:
                return messages, left_out
            left_out += 1


def dialogue(turns: Sequence[Turn]) -> list[Message]:
    """Turns as messages: what the policy wrote, then what it saw."""
    return [
        message
        for turn in turns
        for message in (
            Message(role="assistant", content=turn.text),
            Message(role="user", content=turn.observation),
        )
    ]

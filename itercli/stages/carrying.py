"""Tokens and the way a text ended, handed on with the text from row to row.

Scorers and selectors, those of plug-ins too, copy texts and know nothing of tokens. So the stages
that run them look up, by prompt and text, what the text was sampled as.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from itercli.records import Finish, Generated, PreferencePair, RankedExample, Record, Score, Trajectory

R = TypeVar("R", bound=Record)
Sampled = tuple[Finish | None, Generated | None]
_UNKNOWN: Sampled = (None, None)


def carried(score: Score, trajectory: Trajectory) -> Score:
    """The score with the finish and the tokens of the completion that it judges."""
    if score.finish is not None or score.completion != trajectory.completion:
        return score
    return score.model_copy(update={"finish": trajectory.finish, "generated": trajectory.generated})


class Texts:
    """What is known of the texts of some rows.

    Args:
        rows: Scores or trajectories. Of equal answers to one prompt the first that ended by itself
            counts, else the first.
    """

    def __init__(self, rows: Iterable[Score | Trajectory]) -> None:
        self._known: dict[tuple[str, str], Sampled] = {}
        for row in rows:
            known = self._known.get((row.prompt_id, row.completion))
            if known is None or (known[0] != "stop" and row.finish == "stop"):
                self._known[row.prompt_id, row.completion] = (row.finish, row.generated)

    def of(self, prompt_id: str, text: str) -> Sampled:
        """(finish, tokens) of an answer; None where nothing is known."""
        return self._known.get((prompt_id, text), _UNKNOWN)

    def into(self, row: R) -> R:
        """An example or a pair with what is known of its texts; other rows, and known ones, as they are."""
        if isinstance(row, RankedExample) and not row.finish and not row.generated:
            found = [self.of(row.prompt_id, text) for text in row.responses]
            if any(one != _UNKNOWN for one in found):
                return row.model_copy(
                    update={"finish": [f for f, _ in found], "generated": [g for _, g in found]}
                )
        if isinstance(row, PreferencePair) and row.finish == _UNKNOWN and row.generated == _UNKNOWN:
            chosen, rejected = (self.of(row.prompt_id, text) for text in (row.chosen, row.rejected))
            return row.model_copy(
                update={"finish": (chosen[0], rejected[0]), "generated": (chosen[1], rejected[1])}
            )
        return row

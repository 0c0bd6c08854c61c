"""A search tree over episodes, with UCT; it knows nothing of models or environments.

Source: Agent-R (arXiv 2501.11425) and its released code. A state's visits and value grow only
when an episode that leads through it ends: its score is added, undiscounted, to every state from
the end up to the root. A state is *closed* when nothing below it is left to explore: it is
terminal, or all its children are closed. Closing goes up at once, as far as it holds; the released
code does so while it backs up an end's score.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from itercli.records import Node, Turn


@dataclass(slots=True, eq=False)
class State:
    """A state while the search goes on; the fields are those of `Node`."""

    id: int = 0
    parent: State | None = None
    turn: Turn | None = None
    depth: int = 0
    visits: int = 0
    value: float = 0.0
    closed: bool = False
    terminal: bool = False
    children: list[State] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The environment's score in this state; 0 at the root."""
        return self.turn.score if self.turn else 0.0

    @property
    def turns(self) -> list[Turn]:
        """The turns that lead here from the root."""
        turns: list[Turn] = []
        state: State | None = self
        while state is not None and state.turn is not None:
            turns.append(state.turn)
            state = state.parent
        return turns[::-1]

    def uct(self, c: float) -> float:
        """Upper confidence bound: mean value + c sqrt(ln(visits of the parent) / visits).

        Infinite for a state that was never visited.
        """
        if self.visits == 0 or self.parent is None:
            return math.inf
        return self.value / self.visits + c * math.sqrt(math.log(self.parent.visits) / self.visits)


class SearchTree:
    """States in the order in which they were made, the root first."""

    def __init__(self) -> None:
        self.states = [State()]
        self.best = 0.0  # highest score of an episode that came to its end

    @property
    def root(self) -> State:
        """Where every simulation begins."""
        return self.states[0]

    def expand(self, parent: State, turn: Turn, terminal: bool) -> State:
        """Add a child; a terminal one is an episode's end, so its score is backed up."""
        child = State(len(self.states), parent, turn, parent.depth + 1)
        self.states.append(child)
        parent.children.append(child)
        if terminal:
            self.end(child)
        return child

    def end(self, state: State) -> None:
        """Make a state terminal, and back its score up to the root."""
        state.terminal = state.closed = True
        self.best = max(self.best, state.score)
        above: State | None = state
        while above is not None:
            above.visits += 1
            above.value += state.score
            above = above.parent

    def close(self, state: State) -> None:
        """Close a state whose children are all closed, and those above it for which that is so then."""
        above: State | None = state
        while above is not None and above.children and all(child.closed for child in above.children):
            above.closed = True
            above = above.parent

    def select(self, state: State, c: float, ties: random.Random) -> State:
        """The child to go on with: the highest UCT among those not closed, ties drawn."""
        bounds = [(child.uct(c), child) for child in state.children if not child.closed]
        highest = max(bound for bound, _ in bounds)
        return ties.choice([child for bound, child in bounds if bound == highest])

    def nodes(self) -> list[Node]:
        """The tree as records."""
        return [
            Node(
                id=state.id,
                parent=state.parent.id if state.parent else None,
                turn=state.turn,
                visits=state.visits,
                value=state.value,
                closed=state.closed,
                terminal=state.terminal,
            )
            for state in self.states
        ]

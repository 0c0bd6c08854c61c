"""From a pair of paths to conversations: the good path, and the bad one revised into it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import dropwhile
from typing import Any

from itercli.environments.window import dialogue as as_messages
from itercli.papers.agent_r.pairs import Pair, Path
from itercli.papers.agent_r.verdicts import intercepted, went_wrong
from itercli.records import Dialogue, Finish, Generated, Tree, Turn

# The environment has to answer so as well: `intercept: {wait: ok.}` of its options.
WAIT, REPLY = "wait", "ok."

THOUGHTS = (
    "I see that what I have been doing leads nowhere; I should try another way.",
    "My last steps were wrong. Let me put that right.",
    "I picked the wrong actions here, so I will change course.",
    "There is an error in what I did. I will mend it before going on.",
    "I judged the situation wrongly; time to look at the goal again.",
    "I missed something that matters. Let me take it into account now.",
    "I notice a mistake of mine, and I am going to correct it.",
    "This attempt is failing. I will start over with a better plan.",
    "That was a poor decision; from here on I will decide differently.",
    "I went wrong somewhere on this path. I will make up for it with the right steps.",
)


@dataclass(frozen=True, slots=True)
class Revision:
    """A revised path: bad steps, the signal, the rest of the good path.

    Attributes:
        bad_steps: Number of bad steps that stay, from the first action.
        length: Those behind the part that both paths share: what detecting the mistake took.
        detected: A step was judged bad; else the bad path stays whole.
        inside: The step that was judged bad belongs to the good path as well.
        ended: The environment ended the episode with the last bad step.
    """

    turns: tuple[Turn, ...]
    bad_steps: int
    length: int
    detected: bool
    inside: bool
    ended: bool

    @property
    def facts(self) -> dict[str, Any]:
        """What is kept with the dialogue: the numbers, and what the judge said of the bad steps."""
        judged = [turn.info.get("judgement", {}) for turn in self.turns[: self.bad_steps]]
        said = [{"verdict": j.get("verdict"), "reason": j.get("reason")} for j in judged if j]
        return {name: getattr(self, name) for name in ("bad_steps", "length", "detected", "inside")} | {
            "judgements": said
        }


def bad_steps(bad: Path) -> int:
    """How many steps of a bad path stay: up to the one that was judged bad, or all of them."""
    wrong = went_wrong(bad)
    kept = len(bad.turns) if wrong is None else wrong + 1
    while kept and intercepted(bad.turns[kept - 1]):
        kept -= 1
    return kept


def spliced(pair: Pair) -> tuple[int, int]:
    """What tells a pair's splice from others of its tree: its last bad step, and the end of the good path."""
    kept = bad_steps(pair.bad)
    return pair.bad.nodes[kept - 1] if kept else 0, pair.good.leaf


def revise(pair: Pair, rng: random.Random, *, mask_bad: bool, signal: str) -> Revision | None:
    """Splice a pair (Agent-R, section 3.2).

    The good steps are those of their own branch: nobody has done them after the bad ones yet,
    see `replay`. Where the bad steps end with an intercepted action, or the good ones begin with
    one, the policy has noticed already: the signal takes its place, so that none is said twice.

    Args:
        mask_bad: Only what follows the bad steps is learnt.
        signal: Text of the turn in between, with {thought} and {action}.

    Returns:
        The revision; None if no bad steps are left.
    """
    wrong = went_wrong(pair.bad)
    kept = bad_steps(pair.bad)
    if not kept:
        return None
    shared = pair.bad.shared(pair.good)
    bad = [turn.model_copy(update={"loss": turn.loss and not mask_bad}) for turn in pair.bad.turns[:kept]]
    rest = dropwhile(intercepted, pair.good.turns[min(shared, kept) :])
    text = signal.replace("{action}", WAIT).replace("{thought}", rng.choice(THOUGHTS))
    turn = Turn(text=text, action=WAIT, observation=REPLY, score=bad[-1].score, info={"signal": True})
    return Revision(
        turns=(*bad, turn, *rest),
        bad_steps=kept,
        length=max(0, kept - shared),
        detected=wrong is not None,
        inside=kept <= shared,
        ended=bad[-1].done,
    )


@dataclass(frozen=True, slots=True)
class Draft:
    """A dialogue to be: a path of a tree, or a splice of two."""

    tree: Tree
    index: int
    origin: str
    turns: tuple[Turn, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """That of the dialogue."""
        return (self.tree.prompt_id, self.index)

    def dialogue(self, **meta: Any) -> Dialogue:
        """All turns, also those that a window hid from the policy.

        The reply to the last action is left out, as nothing follows it.
        """
        opening = self.tree.opening
        loss = [False] * len(opening)
        finish: list[Finish | None] = [None] * len(opening)
        generated: list[Generated | None] = [None] * len(opening)
        for turn in self.turns:
            loss += [turn.loss, False]
            finish += [turn.finish, None]
            generated += [turn.generated, None]
        return Dialogue(
            prompt_id=self.tree.prompt_id,
            index=self.index,
            messages=[*opening, *as_messages(self.turns)][:-1],
            loss=loss[:-1],
            finish=finish[:-1],
            generated=generated[:-1],
            origin=self.origin,
            meta={
                "environment": self.tree.meta.get("environment", ""),
                "actions": [turn.action for turn in self.turns],
                **self.meta,
                **meta,
            },
        )

"""ScienceWorld: the allowed action nearest to what a policy proposed.

Agent-R's evaluation does this to every action (spec agent_r, 1.6). It changes scores, so
it is off unless a recipe asks for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

RECENT = 3
ROOMS = (
    "art studio", "bathroom", "bedroom", "foundry", "greenhouse", "hallway", "kitchen", "living room",
    "outside", "workshop",
)  # fmt: skip
NO_FOCUS = frozenset(f"focus on {thing}" for thing in ("agent", "air", *ROOMS))


def snap(proposed: str, valid: Collection[str], recent: Sequence[str], visible: str) -> str:
    """The proposed action if it is allowed, else the allowed one that shares most words with it.

    Not allowed are the last three actions, closing doors, and focusing on rooms, on the agent, on
    air, or on what is not in sight. Of several equally near the shortest is taken; if no word is
    shared, the proposal stays as it is and the simulator says what it makes of it.

    Args:
        proposed: The policy's action.
        valid: The simulator's valid actions, in any order.
        recent: Actions done so far, newest last.
        visible: What the agent sees: look around, and the inventory.
    """
    last, seen = set(recent[-RECENT:]), visible.lower()
    allowed = [action for action in valid if action not in last and _sensible(action, seen)]
    if proposed in allowed:
        return proposed
    words = set(proposed.lower().split())
    shared = {action: len(words & set(action.lower().split())) for action in allowed}
    nearest = min(allowed, key=lambda a: (-shared[a], len(a), a), default=proposed)
    return nearest if shared.get(nearest) else proposed


def _sensible(action: str, seen: str) -> bool:
    if action.startswith("close ") and "door" in action.split():
        return False
    if action.startswith("focus on "):
        # "seed in flower pot" counts as in sight when each of its words is.
        named = [w for w in action.removeprefix("focus on ").lower().split() if w not in ("in", "on", "to")]
        return action not in NO_FOCUS and all(word in seen for word in named)
    return True

"""What AgentGym's servers are asked and what they answer, kind by kind.

All speak JSON over POST /create, /reset, /step, /close with different names for the same things,
and different scales for the score (AgentGym, arXiv:2406.04151; servers of its repository at 3ef9235).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from itercli.environments.base import Step
from itercli.environments.scienceworld import INSTRUCTION as SCIENCEWORLD
from itercli.environments.textcraft import INSTRUCTION as TEXTCRAFT

Kind = Literal["textcraft", "sciworld", "webshop"]

WEBSHOP = """\
You shop in a web store: find the product that the instruction asks for, choose the options that it \
names, and buy it. Each turn, write what you think and then one action:

Thought: why this is the next step
Action: the action

Actions: search[KEYWORDS] on a page with a search box, and click[NAME] for anything on the page that can \
be clicked, such as a product's number, an option, next > or buy now. An action that the page does not \
offer changes nothing. Buying ends the task."""

# Of an environment that the server no longer knows, because it was restarted or has cleaned up.
FORGOTTEN = re.compile(r"\bid \S+ is not valid|has been deleted")


def error_in(reply: Any) -> str | None:
    """The error in an answer, which comes as HTTP 200 all the same."""
    return str(reply["error"]) if isinstance(reply, dict) and "error" in reply else None


@dataclass(frozen=True, slots=True)
class Protocol:
    """A kind of server. The functions raise LookupError, TypeError or ValueError on strange replies.

    Attributes:
        handle: Field that names a live environment.
        task: Field of /reset that names a task.
        created: Reply of /create -> handle.
        opened: Reply of /reset -> first observation.
        stepped: Reply of /step, score before it -> what came of the action.
        instruction: The conversation's, see `Conversation`.
        actions: Reply of /available_actions -> valid actions; None where no address lists them.
        named: Reply of /reset -> the task's name and variation, where it says so.
    """

    handle: str
    task: str
    created: Callable[[Any], int]
    opened: Callable[[Any], str]
    stepped: Callable[[Any, float], Step]
    instruction: str
    actions: Callable[[Any], list[str]] | None = None
    named: Callable[[Any], tuple[str, int]] | None = None


def _step(text: Any, score: Any, before: float, done: Any, **info: Any) -> Step:
    if not isinstance(text, str):
        raise TypeError("an observation is a text")
    reached = max(0.0, min(1.0, float(score)))
    return Step(text, reward=reached - before, score=reached, done=bool(done), info=info)


def _sciworld_step(reply: Any, before: float) -> Step:
    """`score` counts points of 100 so far, `reward` the new ones; below zero the task has failed."""
    points = float(reply["score"])
    failed = {"disaster": True} if points < 0 else {}
    return _step(reply["observation"], points / 100, before, reply["done"] or points < 0, **failed)


def _webshop_actions(reply: Any) -> list[str]:
    """The search box takes any words. Its button, listed among the rest, does nothing by itself."""
    search = ["search[KEYWORDS]"] if reply["has_search_bar"] else []
    return search + [f"click[{name}]" for name in reply["clickables"] if name != "search"]


PROTOCOLS: dict[Kind, Protocol] = {
    "textcraft": Protocol(
        handle="id",
        task="data_idx",
        created=lambda reply: int(reply["id"]),
        opened=lambda reply: str(reply["observation"]),
        stepped=lambda reply, before: _step(reply["observation"], reply["reward"], before, reply["done"]),
        instruction=TEXTCRAFT,
    ),
    "sciworld": Protocol(
        handle="id",
        task="data_idx",
        created=lambda reply: int(reply["id"]),
        opened=lambda reply: f"{reply['task_description']}\n{reply['observation']}",
        stepped=_sciworld_step,
        instruction=SCIENCEWORLD,
        named=lambda reply: (str(reply["task_name"]), int(reply["var_num"])),
    ),
    "webshop": Protocol(
        handle="env_idx",
        task="session_id",
        created=int,
        opened=lambda reply: str(reply[0]),
        # Only the purchase is rewarded, and it ends the task.
        stepped=lambda reply, before: _step(reply["state"], reply["reward"], before, reply["done"]),
        instruction=WEBSHOP,
        actions=_webshop_actions,
    ),
}

"""What the judge is asked about a step, and how its answer is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from itercli.papers.agent_r.pairs import Path
from itercli.records import Message, Tree, Turn

Word = Literal["good", "bad", "uncertain", "unreadable"]
WORDS: tuple[Word, ...] = ("good", "bad", "uncertain", "unreadable")
SLOTS = ("task", "log", "action", "observation")
KEPT = 2000  # characters of the reasons

WORDING = """You check the work of an agent that solves a task in an interactive environment, one action \
at a time. Below are the task, what the agent did so far with the environment's replies, and its newest \
action with the reply to it. Judge the newest action alone.

Task:
{task}

So far:
{log}

Newest action: {action}
Reply: {observation}

Decide between three verdicts:
good - the action helps a lot to finish the task.
bad - the action does a lot of harm: it leads away from the task, or spends what the task needs.
uncertain - it neither helps nor harms much, or this can't be told yet.

First give your reasons in one to three sentences. Then end with one line that holds the verdict alone:
Judgement: good, bad or uncertain"""

_MARK = re.compile(r"judge?ment\s*\**\s*:", re.IGNORECASE)
_WORD = re.compile(r"\W*(good|bad|uncertain)\b", re.IGNORECASE)
_ANOTHER = re.compile(r"\W*(or\b\W*)?(good|bad|uncertain)\b", re.IGNORECASE)


def question(wording: str, tree: Tree, turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Ask about the last of these turns; thoughts are not shown.

    Args:
        wording: Text with the slots {task}, {log}, {action}, {observation}.
        turns: The path from the first action to the step to judge.
    """
    log = "\n".join(f"Action: {turn.action}\nReply: {turn.observation}" for turn in turns[:-1])
    slots = {
        "task": tree.opening[-1].content,
        "log": log or "(nothing)",
        "action": turns[-1].action or "(none)",
        "observation": turns[-1].observation,
    }
    text = re.sub(rf"\{{({'|'.join(SLOTS)})\}}", lambda match: slots[match[1]], wording)
    return (Message(role="user", content=text),)


def read(answer: str) -> tuple[Word, str]:
    """Verdict and reasons of an answer: what follows the last "Judgement:" (or "Judgment:").

    Small models repeat the question's last line, which names all three: that is no verdict.
    """
    marks = list(_MARK.finditer(answer))
    reason = (answer[: marks[-1].start()] if marks else answer).strip()[:KEPT]
    found = _WORD.match(answer, marks[-1].end()) if marks else None
    if found and _ANOTHER.match(answer, found.end()):
        found = None
    word: Any = found[1].lower() if found else "unreadable"
    return word, reason


def went_wrong(path: Path) -> int | None:
    """Position of the first step that was judged bad (t' of the paper); None: the path stays whole."""
    bad = (n for n, turn in enumerate(path.turns) if turn.info.get("judgement", {}).get("bad"))
    return next(bad, None)


def intercepted(turn: Turn) -> bool:
    """Whether the action never reached the environment, as `wait` doesn't."""
    return bool(turn.info.get("intercepted"))

"""Source `stories`: short story openings to be continued, made from parts.

Openings are plain: who, where, what happens next is left open. Whether the continuation is a
happy one is the policy's choice, so a reward on its sentiment has something to steer, and a
program (`sentiment`) knows the true reward of every text.

Splits share no person: what is learned about some openings is measured on others. The openings
of the split `labelled` come with answers of SmolLM2-135M-Instruct in ``meta["answers"]``, drawn once by
``scripts/draw_stories.py``: what the preference data of a loop's beginning are made from. Their budget
was 48 tokens, and ``meta["answers_finish"]`` says of each whether it ended or was cut there (1,379 of
1,536).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.data.base import Source, hash_files, read_jsonl
from itercli.records import Message, Prompt
from itercli.registry import register

Split = Literal["labelled", "train", "heldout"]

PEOPLE: dict[Split, tuple[str, ...]] = {
    "labelled": (
        "a baker", "an old sailor", "two sisters", "a young teacher", "a night watchman", "a gardener",
        "a bus driver", "a retired judge", "a piano tuner", "a mail carrier", "a student", "a blacksmith",
    ),
    "train": (
        "a fisherman", "a nurse", "three brothers", "a shy librarian", "a mountain guide", "a tailor",
        "a chess player", "a widow", "a young painter", "a train conductor", "a farmer", "a clockmaker",
        "a radio host", "a carpenter", "a traveling cook", "a swimmer",
    ),
    "heldout": (
        "a lighthouse keeper", "a shoemaker", "a new neighbor", "a pilot", "a street musician", "a beekeeper",
        "an aunt", "a boatman",
    ),
}  # fmt: skip
PLACES = (
    "in a small town by the sea", "at the edge of a forest", "in a crowded city", "on a quiet island",
    "in a valley between two hills", "near an old railway station", "at a market square", "beside a river",
)  # fmt: skip
EVENTS = (
    "found a letter under the door", "heard a knock late in the evening", "opened an old wooden box",
    "met a stranger on the road", "received a call from the past", "noticed that the door was open",
    "got up before everyone else", "waited for the last bus", "saw smoke above the roofs",
    "was asked for a favor", "lost a key", "came home after many years",
)  # fmt: skip
ANSWERS = Path(__file__).parent / "answers.jsonl.gz"
TASK = "Continue this story with two or three sentences: One day, {who} {where} {what}."


@register("source", "stories")
class Stories(Source):
    """Openings of each split in a fixed shuffled order.

    Attributes:
        limit: Number of prompts, None for all (labelled 1152, of which 384 with answers, train 1536,
            heldout 768).
    """

    VERSION: ClassVar[int] = 2

    split: Split = "train"
    limit: int | None = Field(None, ge=1)

    def prompts(self) -> Iterator[Prompt]:
        parts = list(product(PEOPLE[self.split], PLACES, EVENTS))
        random.Random(self.split).shuffle(parts)
        answers = drawn_answers() if self.split == "labelled" else {}
        for who, where, what in islice(parts, self.limit):
            text = TASK.format(who=who, where=where, what=what)
            name = f"story/{self.split}/{hashlib.sha256(text.encode()).hexdigest()[:8]}"
            meta: dict[str, Any] = {"person": who, "place": where, "event": what}
            if name in answers:
                meta["answers"], meta["answers_finish"] = answers[name]
            yield Prompt(id=name, messages=[Message(role="user", content=text)], meta=meta)

    def fingerprint(self) -> dict[str, str]:
        # All else is in the code, whose version is VERSION.
        return hash_files([ANSWERS]) if self.split == "labelled" and ANSWERS.is_file() else {}


def drawn_answers() -> dict[str, tuple[list[str], list[str]]]:
    """Prompt id -> (answers, how each ended); empty before they were drawn."""
    if not ANSWERS.is_file():
        return {}
    return {row["id"]: (row["answers"], row["finish"]) for _, row in read_jsonl(ANSWERS)}

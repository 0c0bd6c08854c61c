"""Source `textworld`: games that TextWorld makes from seeds; the environment makes them when first played."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from itercli.data.base import Source
from itercli.environments.textworld import Game, package_version
from itercli.records import Message, Prompt
from itercli.registry import register

# Each split's first seed.
GAMES = 1_000_000
FIRST_SEED = {"train": 0, "dev": GAMES, "test": 2 * GAMES}


@register("source", "textworld")
class TextWorldTasks(Source):
    """Games of one size, for the environment of the same name; splits differ in their seeds.

    Attributes:
        rooms: Rooms of a game.
        objects: Objects in it.
        quest_length: Commands that a quest takes at least.
        quests: Independent quests; each is worth the same part of the score.
        offset: Games to skip.
        limit: Games to give.
    """

    VERSION: ClassVar[int] = 1

    split: Literal["train", "dev", "test"] = "train"
    rooms: int = Field(5, ge=1)
    objects: int = Field(10, ge=1)
    quest_length: int = Field(5, ge=1)
    quests: int = Field(1, ge=1)
    offset: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=500_000)

    @model_validator(mode="after")
    def _within_split(self) -> TextWorldTasks:
        if self.offset + self.limit > GAMES:
            raise ValueError(
                f"offset {self.offset} and limit {self.limit} reach into the next split's games; "
                f"a split has {GAMES}, so together they are that at most"
            )
        return self

    def prompts(self) -> Iterator[Prompt]:
        first = FIRST_SEED[self.split] + self.offset
        for seed in range(first, first + self.limit):
            game = Game(
                seed=seed, rooms=self.rooms, objects=self.objects,
                quest_length=self.quest_length, quests=self.quests,
            )  # fmt: skip
            size = f"r{self.rooms}-o{self.objects}-l{self.quest_length}-q{self.quests}"
            text = (
                f"Win text adventure {seed} of TextWorld: rooms {self.rooms}, objects {self.objects}, "
                f"quests {self.quests} of {self.quest_length} commands."
            )
            yield Prompt(
                id=f"textworld/{size}/{seed}",
                messages=[Message(role="user", content=text)],
                meta={"environment": "textworld", "task": game.model_dump(), "split": self.split},
            )

    def fingerprint(self) -> dict[str, str]:
        return {"textworld": package_version()}

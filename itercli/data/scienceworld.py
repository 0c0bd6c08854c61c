"""Source `scienceworld`: tasks of ScienceWorld by the package's own split, or by AgentGym's ids.

The table of tasks is shipped (scripts/list_scienceworld.py made it), so planning needs no Java.
AgentGym numbers the variations of 22 tasks through: tasks in the order of their ids, all
variations ascending, 4,339 in all. Published lists of test items (Agent-R, AgentGym) use these ids.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from itercli.data.base import Source, hash_files
from itercli.data.published import expanded
from itercli.recipe.errors import nearest
from itercli.records import Message, Prompt
from itercli.registry import register

TABLE = Path(__file__).with_name("scienceworld_tasks.json")
SPLITS = ("train", "dev", "test")
# Long tasks, and 2-3, which AgentGym's server has but the published ids do not count (spec agent_r, 2).
NOT_IN_AGENTGYM = ("2-3", "5-1", "5-2", "9-1", "9-2", "9-3", "10-1", "10-2")


class Item(NamedTuple):
    """A task with a variation; `agentgym` is its published id, None where it has none."""

    name: str
    variation: int
    split: str
    title: str
    agentgym: int | None

    def prompt(self) -> Prompt:
        """The item as a row."""
        meta: dict[str, Any] = {
            "environment": "scienceworld",
            "task": {"task": self.name, "variation": self.variation},
            "split": self.split,
        }
        if self.agentgym is not None:
            meta["agentgym"] = self.agentgym
        text = f"{self.title} (ScienceWorld's {self.name}, variation {self.variation})"
        return Prompt(
            id=f"scienceworld/{self.name}/{self.variation}",
            messages=[Message(role="user", content=text)],
            meta=meta,
        )


@cache
def items() -> tuple[Item, ...]:
    """All 7,207, in the order of the task ids."""
    found: list[Item] = []
    agentgym = 0
    for row in json.loads(TABLE.read_text()):
        *starts, total = accumulate((row["variations"][split] for split in SPLITS), initial=0)
        for variation in range(total):
            split = SPLITS[sum(variation >= start for start in starts) - 1]
            counted = row["id"] not in NOT_IN_AGENTGYM
            number = agentgym if counted else None
            found.append(Item(row["name"], variation, split, row["title"], number))
            agentgym += counted
    return tuple(found)


@register("source", "scienceworld")
class ScienceWorldTasks(Source):
    """ScienceWorld's tasks, for the environment of the same name.

    `meta` holds `environment`, `task`, `split` and, where it has one, `agentgym`: the published id.

    Attributes:
        split: The package's split.
        tasks: Names of tasks; empty is all 30.
        skip: Variations to skip of each task.
        per_task: Variations to give of each task, None for all.
        shuffle: Seed of the order; None is by task, then variation.
        ids: AgentGym's ids, in the order wanted; they choose by themselves, without the options above.
            `agent_r_test` are the 200 that Agent-R tests on.
        offset: Items to skip, of those chosen.
        limit: Items to give, None for all.
    """

    VERSION: ClassVar[int] = 1
    CLUSTER: ClassVar[str | None] = "task.task"

    split: Literal["train", "dev", "test"] = "train"
    tasks: tuple[str, ...] = ()
    skip: int = Field(0, ge=0)
    per_task: int | None = Field(None, ge=1)
    shuffle: int | None = None
    ids: tuple[int, ...] = ()
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)

    @field_validator("tasks")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = {item.name: None for item in items()}
        for name in value:
            if name not in names:
                raise ValueError(f"no task {name!r}; did you mean {nearest(name, names) or 'boil'!r}?")
        return value

    @field_validator("ids", mode="before")
    @classmethod
    def _expanded(cls, given: Any) -> list[Any]:
        return expanded("sciworld", given)

    @field_validator("ids")
    @classmethod
    def _published(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        count = sum(item.agentgym is not None for item in items())
        for number in value:
            if not 0 <= number < count:
                raise ValueError(f"no id {number}; AgentGym's are 0 to {count - 1}")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> ScienceWorldTasks:
        other = self.model_fields_set & {"split", "tasks", "skip", "per_task", "shuffle"}
        if self.ids and other:
            raise ValueError(f"`ids` chooses the items; leave out {', '.join(sorted(other))}")
        return self

    def prompts(self) -> Iterator[Prompt]:
        stop = None if self.limit is None else self.offset + self.limit
        return (item.prompt() for item in self._chosen()[self.offset : stop])

    def fingerprint(self) -> dict[str, str]:
        return hash_files([TABLE])

    def _chosen(self) -> list[Item]:
        if self.ids:
            published = [item for item in items() if item.agentgym is not None]
            return [published[number] for number in self.ids]
        stop = None if self.per_task is None else self.skip + self.per_task
        of_task: dict[str, list[Item]] = {}
        for item in items():
            if item.split == self.split and (not self.tasks or item.name in self.tasks):
                of_task.setdefault(item.name, []).append(item)
        chosen = [item for group in of_task.values() for item in group[self.skip : stop]]
        if self.shuffle is not None:
            random.Random(self.shuffle).shuffle(chosen)
        return chosen

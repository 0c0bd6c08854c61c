"""Source `agentgym`: tasks of AgentGym's servers, by their numbers.

ScienceWorld's numbers are those of the published lists, which count 4,339 tasks: without 2-3, which
today's servers do count, so theirs are 300 ahead behind it (WooooDyy/AgentGym, issue 49).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from itercli.data.base import Source, hash_files
from itercli.data.published import expanded
from itercli.data.scienceworld import TABLE, Item, items
from itercli.environments.agentgym import default_label
from itercli.environments.agentgym_protocol import Kind
from itercli.records import Message, Prompt
from itercli.registry import register

UNPUBLISHED = "measure-melting-point-unknown-substance"  # 2-3
WORDS = {"textcraft": "Craft the item", "webshop": "Buy the product"}


@register("source", "agentgym")
class AgentGymTasks(Source):
    """Tasks for the environment `agentgym_http`; `meta` holds `environment` and `task`.

    Attributes:
        kind: What the server plays.
        ids: Numbers of tasks and ranges of them, both ends included: [3, 17, 40-59]. `agent_r_train` and
            `agent_r_test` are those that Agent-R published, `agent_r_train:0-299` the first 300 of them.
        label: That of the environment, if it has one.
        server_tasks: How many tasks a ScienceWorld server counts.
    """

    VERSION: ClassVar[int] = 1

    kind: Kind
    ids: tuple[int, ...] = Field(min_length=1)
    label: str = ""
    server_tasks: Literal[4339, 4639] = 4639

    @field_validator("ids", mode="before")
    @classmethod
    def _expanded(cls, given: Any, info: ValidationInfo) -> list[Any]:
        kind = info.data.get("kind")
        return expanded(kind, given) if kind else [0]  # a wrong kind is reported by itself

    @model_validator(mode="after")
    def _possible(self) -> AgentGymTasks:
        for number in self.ids:
            if number < 0 or (self.kind == "sciworld" and number >= 4339):
                most = ", those of sciworld end at 4338" if self.kind == "sciworld" else ""
                raise ValueError(f"no id {number}; they begin at 0{most}")
        return self

    def prompts(self) -> Iterator[Prompt]:
        label = self.label or default_label(self.kind)
        published = _numbered(self.server_tasks) if self.kind == "sciworld" else []
        for number in self.ids:
            if published:
                theirs, item = published[number]
                task = {"id": theirs, "task": item.name, "variation": item.variation}
                text = f"{item.title} (ScienceWorld's {item.name}, variation {item.variation})"
            else:
                task, text = {"id": number}, f"{WORDS[self.kind]} of the server's task {number}."
            yield Prompt(
                id=f"{label}/{number}",
                messages=[Message(role="user", content=text)],
                meta={"environment": label, "task": task},
            )

    def fingerprint(self) -> dict[str, str]:
        return hash_files([TABLE]) if self.kind == "sciworld" else {}


def _numbered(server_tasks: int) -> list[tuple[int, Item]]:
    """The published items in their order, each with the server's number."""
    counted = [
        item
        for item in items()
        if item.agentgym is not None or (server_tasks == 4639 and item.name == UNPUBLISHED)
    ]
    return [(number, item) for number, item in enumerate(counted) if item.agentgym is not None]

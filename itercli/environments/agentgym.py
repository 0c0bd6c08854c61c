"""Environment `agentgym_http`: environments behind AgentGym's servers, over HTTP.

A task is ``{"id": 17}``, the number under which the server knows it. With
``{"id": 17, "task": "boil", "variation": 17}`` a ScienceWorld server has to mean the same task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, PrivateAttr, field_validator, model_validator

from itercli.environments.agentgym_protocol import PROTOCOLS, Kind, Protocol
from itercli.environments.base import (
    Conversation,
    Environment,
    EnvironmentDied,
    EnvironmentFailed,
    EnvironmentSpec,
    Step,
    Task,
)
from itercli.registry import how, register

if TYPE_CHECKING:
    from itercli.environments.agentgym_client import Client

T = TypeVar("T")


def default_label(kind: Kind) -> str:
    """What tasks call a server of a kind, unless it has a label."""
    return f"agentgym.{kind}"


@register("environment", "agentgym_http")
class AgentGymSpec(EnvironmentSpec):
    """A server of AgentGym (Xi et al. 2024) that runs elsewhere; actions are sent bare."""

    kind: Kind = Field(description="What the server plays, and so how it speaks.")
    url: str = how(description="Its address, for example http://127.0.0.1:36001.")
    label: str = Field(
        "",
        pattern=r"^[\w.-]*$",
        description="Name by which tasks find it; agentgym.KIND if unset. Tells servers of one kind apart.",
    )
    conversation: Conversation = Field(
        Conversation(), description="What is left out of it is the kind's own."
    )
    timeout_s: float = how(default=60.0, gt=0, description="Seconds without an answer: the call has failed.")
    retries: int = how(default=8, ge=0, description="Further tries while the server is busy or away.")
    backoff_s: float = how(default=0.5, ge=0, description="First pause in seconds; it doubles each time.")
    backoff_max_s: float = how(default=30.0, ge=0, description="Longest pause in seconds.")

    _client: Client | None = PrivateAttr(None)

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no address; write it as http://HOST:PORT")
        return value

    @model_validator(mode="before")
    @classmethod
    def _spoken(cls, given: Any) -> Any:
        """The kind's conversation, where the recipe says nothing else."""
        own = given.get("conversation", {}) if isinstance(given, dict) else None
        if not isinstance(own, dict) or given.get("kind") not in PROTOCOLS:
            return given
        kinds = {
            "instruction": PROTOCOLS[given["kind"]].instruction,
            "acknowledge": "Ok.",
            "one_line": given["kind"] == "sciworld",
        }
        return {**given, "conversation": kinds | own}

    @property
    def known_as(self) -> str:
        return self.label or default_label(self.kind)

    def build(self) -> Environment:
        return AgentGym(self.client(), PROTOCOLS[self.kind])

    def client(self) -> Client:
        """The connections that all live environments share."""
        from itercli.environments.agentgym_client import Client

        if self._client is None:
            backoff = (self.backoff_s, self.backoff_max_s)
            self._client = Client(self.url, self.timeout_s, self.retries, backoff)
        return self._client

    def shut_down(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


class AgentGym(Environment):
    """An environment that a server holds for us."""

    def __init__(self, client: Client, protocol: Protocol) -> None:
        self._client, self._protocol = client, protocol
        self._handle = self._create()
        self._score = 0.0

    def reset(self, task: Task) -> str:
        number = task.get("id")
        if not isinstance(number, int):
            raise EnvironmentFailed(f"a task of an AgentGym server is {{'id': int}}, not {task}")
        body = {self._protocol.task: number}
        try:
            reply = self._post("reset", body)
        except EnvironmentDied:  # of no matter here: any other one will do
            self.close()
            self._handle = self._create()
            reply = self._post("reset", body)
        self._score = 0.0
        self._same_task(task, reply)
        return self._read("reset", reply, self._protocol.opened)

    def step(self, action: str) -> Step:
        reply = self._post("step", {"action": action})
        step = self._read("step", reply, lambda said: self._protocol.stepped(said, self._score))
        self._score = step.score
        return step

    def valid_actions(self) -> list[str] | None:
        if self._protocol.actions is None:
            return None
        reply = self._client.get("available_actions", self._named())
        return self._read("available_actions", reply, self._protocol.actions)

    def close(self) -> None:
        if self._known():
            self._client.owners.pop(self._handle, None)
            # Older WebShop servers have no such address and keep the environment; there is no other way.
            self._client.tell("close", {self._protocol.handle: self._handle})

    def _create(self) -> int:
        from itercli.environments.agentgym_client import ServerFailed

        try:
            reply = self._client.post("create", {}, again=True)
        except EnvironmentFailed as error:
            raise ServerFailed(f"the server makes no environments: {error}") from error
        handle = self._read("create", reply, self._protocol.created)
        if handle in self._client.owners:  # given twice: the server was restarted
            self._client.owners.clear()
        self._client.owners[handle] = self
        return handle

    def _known(self) -> bool:
        return self._client.owners.get(self._handle) is self

    def _named(self) -> dict[str, int]:
        """What names it in a call.

        Raises:
            EnvironmentDied: The server was restarted, so the handle may be another's.
        """
        if not self._known():
            raise EnvironmentDied(f"{self._client.url} has forgotten environment {self._handle}")
        return {self._protocol.handle: self._handle}

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._client.post(path, self._named() | body)

    def _same_task(self, task: Task, reply: Any) -> None:
        """Check that number and name mean one task.

        Raises:
            ServerFailed: The server counts its tasks in another way.
        """
        from itercli.environments.agentgym_client import ServerFailed

        if self._protocol.named is None or "task" not in task:
            return
        found = self._read("reset", reply, self._protocol.named)
        if found != (task["task"], task["variation"]):
            raise ServerFailed(
                f"{self._client.url}: task {task['id']} is {found[0]} {found[1]} there, not {task['task']} "
                f"{task['variation']}; the source's `server_tasks` says how many tasks the server counts"
            )

    def _read(self, path: str, reply: Any, read: Callable[[Any], T]) -> T:
        from itercli.environments.agentgym_client import ServerFailed

        try:
            return read(reply)
        except (LookupError, TypeError, ValueError) as error:
            raise ServerFailed(
                f"{self._client.url}/{path} answered {str(reply)[:300]}, which no server of this kind does "
                f"({type(error).__name__}: {error}); check the environment's `kind` and `url`"
            ) from error

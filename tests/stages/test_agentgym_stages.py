"""Rollouts and searches in environments behind servers, two of them in one stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from itercli.data.agentgym import AgentGymTasks
from itercli.environments.agentgym_client import ServerFailed
from itercli.records import Episode, Prompt, Tree
from itercli.sampling.base import Request
from itercli.search.mcts import Search
from itercli.stages.rollout import Rollout
from tests.environments.agentgym_server import Server
from tests.stages.bench import Bench, Fake, Slots

BUYING = ["search[x]", "click[b01]", "click[buy now]"]
CRAFTING = ["get 1 logs", "craft 4 planks using 1 logs"]


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """A WebShop and a TextCraft."""
    begun = Server("webshop"), Server("textcraft")
    yield begun
    for server in begun:
        server.stop()


def environments(*servers: Server, **options: Any) -> list[dict[str, Any]]:
    fast = {"backoff_s": 0.01, "backoff_max_s": 0.05, "retries": 3}
    return [{"name": "agentgym_http", "kind": s.kind, "url": s.url} | fast | options for s in servers]


def tasks(*servers: Server, ids: str = "0") -> list[Prompt]:
    return [
        prompt
        for s in servers
        for prompt in AgentGymTasks.model_validate({"kind": s.kind, "ids": ids}).prompts()
    ]


def playing(request: Request) -> str:
    """The next right action of the task's game."""
    way = BUYING if "web store" in request.messages[0].content else CRAFTING
    return f"Thought: go on.\nAction: {way[len(request.messages) // 2 - 1]}"


def rollout(*servers: Server, **options: Any) -> Rollout:
    given = {"role": "policy", "prompts": "tasks", "environment": environments(*servers), "sampler": Fake()}
    return Rollout.model_validate(given | options)


def test_episodes_of_two_servers(tmp_path: Path, servers: tuple[Server, Server]) -> None:
    # Busy now and then, and forgetful in the middle of it.
    servers[0].fault = lambda path, before: 503 if before % 2 else None
    sampler = Slots(3, answer=playing, after=lambda n: servers[1].live.clear() if n == 4 else None)
    made = Bench(tmp_path, "episodes").stage(rollout(*servers), sampler, Episode, prompts=tasks(*servers))
    assert [e.meta["environment"] for e in made] == ["agentgym.webshop", "agentgym.textcraft"]
    assert [(e.score, e.finish, [t.action for t in e.turns]) for e in made] == [
        (1.0, "done", BUYING), (1.0, "done", CRAFTING),
    ]  # fmt: skip
    assert [m.role for m in made[0].opening] == ["user", "assistant", "user"]
    assert len(servers[0].live) == 1  # the shop's was not given up for the other's


def test_a_server_that_is_away_costs_no_episode(tmp_path: Path, servers: tuple[Server, Server]) -> None:
    shop, bench = servers[0], Bench(tmp_path, "episodes")
    away = Slots(answer=playing, after=lambda n: shop.stop() if n == 2 else None)
    with pytest.raises(ServerFailed, match="what is done is kept"):
        bench.stage(rollout(shop), away, Episode, prompts=tasks(shop))
    shop.start()
    again = Slots(answer=playing)
    (made,) = bench.stage(rollout(shop), again, Episode, prompts=tasks(shop))
    assert (made.score, made.finish, len(again.asked)) == (1.0, "done", 1)


def test_servers_of_one_kind_are_told_apart_by_label(servers: tuple[Server, Server]) -> None:
    one, other = environments(servers[0], servers[0])
    wrong = rollout(environment=[one, other]).check()
    assert wrong == [("environment", "agentgym.webshop is listed twice", "each environment once")]
    assert rollout(environment=[one, other | {"label": "big"}]).check() == []


def test_a_search_behind_a_server(tmp_path: Path, servers: tuple[Server, Server]) -> None:
    words = ["search[x]", "click[b01]", "click[b02]", "click[buy now]"]

    def answer(request: Request) -> str:
        return f"Action: {words[request.seed % 4]}"

    search = Search.model_validate(
        {
            "role": "policy", "prompts": "tasks", "environment": environments(servers[0], instances=2),
            "sampler": Fake(), "simulations": 5, "candidates": 4, "max_depth": 5,
        }
    )  # fmt: skip
    made = Bench(tmp_path, "trees").stage(
        search, Slots(8, answer=answer), Tree, prompts=tasks(servers[0], ids="0-1")
    )
    bought = [n for tree in made for n in tree.nodes if n.turn and n.turn.done]
    assert {n.turn.score for n in bought if n.turn} == {0.5, 1.0}
    assert all(n.turn.action == "click[buy now]" for n in bought if n.turn)
    assert len(servers[0].live) == 2  # replayed and begun anew in two environments, never more

"""AgentGym's servers through sockets: the three protocols, their traps, and servers that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from itercli.environments.agentgym import AgentGymSpec
from itercli.environments.agentgym_client import ServerFailed
from itercli.environments.base import EnvironmentFailed, Step
from itercli.environments.pool import Worlds
from tests.environments.agentgym_server import Server

Start = Callable[..., tuple[Server, Worlds]]
LOGS = ["get 1 logs", "get 1 logs"]
CRAFT = "craft 4 planks using 2 logs"
TASK = {"id": 1}


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server of a kind, and live environments there."""
    begun: list[tuple[Server, Worlds]] = []

    def make(kind: str, **options: Any) -> tuple[Server, Worlds]:
        server = Server(kind)
        fast = {"backoff_s": 0.01, "backoff_max_s": 0.05, "timeout_s": 2.0, "instances": 2}
        spec = AgentGymSpec.model_validate({"kind": kind, "url": server.url} | fast | options)
        begun.append((server, Worlds(spec)))
        return begun[-1]

    yield make
    for server, worlds in begun:
        worlds.close()
        server.stop()


def test_textcraft_is_played_with_bare_actions(start: Start) -> None:
    server, worlds = start("textcraft", instances=1)
    assert worlds.open("t", TASK).endswith("using 2 logs\n\nGoal: craft planks.")
    assert worlds.play("t", TASK, ["fly"]) == Step("Could not execute fly")
    done = worlds.play("t", TASK, ["fly", *LOGS, CRAFT])
    assert done == Step("Crafted 4 minecraft:planks", 1.0, 1.0, True)
    assert worlds.valid_actions("t", TASK, LOGS) is None
    worlds.close()
    assert server.live == {}
    assert server.paths.count("/create") == server.paths.count("/close") == 1


def test_sciworld_counts_in_points_and_fails_below_zero(start: Start) -> None:
    server, worlds = start("sciworld", instances=1)
    assert worlds.open("t", {"id": 3}) == "Task 3: find water.\nA hallway.\nA door."
    assert worlds.play("t", {"id": 3}, ["open door"]) == Step("open door.", 0.25, 0.25)
    assert worlds.play("t", {"id": 3}, ["open door", "wait"]) == Step("wait.", 0.0, 0.25)
    lost = worlds.play("t", {"id": 3}, ["open door", "wait", "focus on agent"])
    assert lost == Step("focus on agent.", -0.25, 0.0, True, {"disaster": True})
    # It is begun anew: the server takes no step after the end.
    won = worlds.play("t", {"id": 3}, ["focus on water"])
    assert (won.score, won.done) == (1.0, True)
    assert len(server.live) == 1


def test_webshop_is_rewarded_when_bought(start: Start) -> None:
    server, worlds = start("webshop", instances=1)
    assert "Find thing 7" in worlds.open("t", {"id": 7})
    assert worlds.valid_actions("t", {"id": 7}, []) == ["search[KEYWORDS]"]
    assert worlds.valid_actions("t", {"id": 7}, ["search[x]"]) == [
        "click[back to search]", "click[b01]", "click[b02]",
    ]  # fmt: skip
    way = ["search[x]", "click[b02]", "click[buy now]"]
    assert [worlds.play("t", {"id": 7}, way[:n]) for n in (1, 2, 3)] == [
        Step("at results"), Step("at b02"), Step("at end", 0.5, 0.5, True),
    ]  # fmt: skip
    worlds.close()  # answered by 404
    assert len(server.live) == 1
    assert worlds.counts["unclean"] == 0


def test_a_task_that_the_server_refuses_fails_alone(start: Start) -> None:
    _, worlds = start("textcraft")
    with pytest.raises(EnvironmentFailed, match="/reset: list index out of range"):
        worlds.open("t", {"id": 9})
    with pytest.raises(EnvironmentFailed, match=r"{'id': int}"):
        worlds.open("t", {"goal": "x"})
    assert worlds.play("t", TASK, LOGS).observation == "Got 1 logs"
    assert worlds.counts["deaths"] == 0


@pytest.mark.parametrize("kind", ["textcraft", "webshop"])
def test_a_busy_server_is_asked_again(start: Start, kind: str) -> None:
    server, worlds = start(kind)
    server.fault = lambda path, before: 503 if before % 3 < 2 else None
    worlds.open("t", TASK)
    assert not worlds.play("t", TASK, ["click[x]"]).done
    assert server.counts["/step"] == 3
    assert worlds.counts["deaths"] == 0


@pytest.mark.parametrize("kind", ["textcraft", "webshop"])
def test_a_server_that_has_forgotten_is_told_again(start: Start, kind: str) -> None:
    server, worlds = start(kind)
    way = {"textcraft": [*LOGS, CRAFT], "webshop": ["search[x]", "click[b01]", "click[buy now]"]}[kind]
    for n in (1, 2):
        worlds.play("t", TASK, way[:n])
        worlds.play("other", TASK, way[:n])
    server.live.clear()
    assert worlds.play("t", TASK, way).score == 1.0
    assert worlds.counts["deaths"] == 1
    assert worlds.play("new", TASK, way).score == 1.0  # in one that stood elsewhere: reset makes it anew
    assert worlds.counts["deaths"] == 1


def test_a_server_that_restarts_is_waited_for(start: Start) -> None:
    server, worlds = start("sciworld", retries=60)
    worlds.play("t", TASK, ["open door"])
    server.stop()
    threading.Timer(0.2, server.start).start()
    assert worlds.play("t", TASK, ["open door", "wait"]) == Step("wait.", 0.0, 0.25)


@pytest.mark.parametrize("kind", ["textcraft", "webshop"])
@pytest.mark.parametrize("first", ["old", "new"])
def test_after_a_restart_no_episode_goes_on_in_another_ones_environment(
    start: Start, kind: str, first: str
) -> None:
    server, worlds = start(kind, instances=3)
    way = {"textcraft": [*LOGS, CRAFT], "webshop": ["search[x]", "click[b01]", "click[buy now]"]}[kind]
    worlds.play("a", TASK, way[:1])
    worlds.play("b", TASK, way[:1])
    server.stop()
    server.start()
    # Noticed by what the server does not know any more, or by a handle that it gives again: a's.
    taker = {"old": "b", "new": "c"}[first]
    worlds.play(taker, TASK, way[:2])
    # One move behind: in the other's environment these would be the winning ones, or lost there.
    assert not worlds.play("a", TASK, [way[0], way[2]]).done
    assert worlds.play(taker, TASK, way).score == 1.0
    assert worlds.play("b", TASK, way[:2]) == worlds.play("d", TASK, way[:2])
    worlds.close()
    assert len(server.live) == (0 if kind == "textcraft" else server.made)


@pytest.mark.parametrize("fault", ["drop", 0.6, 500])
def test_a_step_without_an_answer_is_not_done_twice(start: Start, fault: Any) -> None:
    server, worlds = start("textcraft", timeout_s=0.3)
    server.fault = lambda path, before: fault if (path, before) == ("/step", 0) else None
    started = time.monotonic()
    assert worlds.play("t", TASK, LOGS[:1]).observation == "Got 1 logs"
    # One log is not enough, so a second one that came by itself would show.
    assert worlds.play("t", TASK, [*LOGS[:1], CRAFT]).observation.startswith("Could not")
    assert time.monotonic() - started < 5
    assert worlds.counts["deaths"] == 1


def test_an_action_that_never_ends_ends_its_episode(start: Start) -> None:
    server, worlds = start("textcraft", timeout_s=0.1)
    server.fault = lambda path, before: 0.3 if path == "/step" else None
    step = worlds.play("t", TASK, ["get 1 logs"])
    assert step.done
    assert "gave no answer (ReadTimeout" in step.info["error"]


def test_without_a_server_the_stage_stops(start: Start) -> None:
    server, worlds = start("textcraft", retries=1)
    worlds.play("t", TASK, LOGS)
    server.stop()
    with pytest.raises(ServerFailed, match=r"no answer in 2 tries; last: ConnectError.*`url`"):
        worlds.play("t", TASK, [*LOGS, CRAFT])
    server.start()
    assert worlds.play("t", TASK, [*LOGS, CRAFT]).score == 1.0


def test_another_kind_of_server_is_recognised(start: Start) -> None:
    server, _ = start("textcraft")
    with pytest.raises(ServerFailed, match=r"/create answered {'id': 0}.*check the environment's `kind`"):
        Worlds(AgentGymSpec(kind="webshop", url=server.url)).prepare()
    with pytest.raises(ServerFailed, match="/v1/create answered HTTP 404"):
        Worlds(AgentGymSpec(kind="textcraft", url=f"{server.url}/v1")).prepare()


def test_numbers_that_mean_another_task_are_noticed(start: Start) -> None:
    _, worlds = start("sciworld")
    same = {"id": 1396, "task": "power-component", "variation": 0}
    assert worlds.open("t", same).startswith("Task 1396")
    with pytest.raises(ServerFailed, match=r"task 1397 is power-component 1 there.*`server_tasks`"):
        worlds.open("t", same | {"id": 1397})


def test_what_the_recipe_leaves_out_of_the_conversation_is_the_kinds_own() -> None:
    spec = AgentGymSpec.model_validate(
        {"kind": "webshop", "url": "http://h", "conversation": {"system": "Be quick."}}
    )
    assert spec.conversation.system == "Be quick."
    assert "click[NAME]" in spec.conversation.instruction
    assert spec.known_as == "agentgym.webshop"
    assert AgentGymSpec.model_validate(spec.model_dump()) == spec
    assert "url" not in spec.key_params()
    with pytest.raises(ValidationError, match="http://HOST:PORT"):
        AgentGymSpec(kind="webshop", url="localhost:1")

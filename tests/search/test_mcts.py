"""The search stage on the toy game: trees by hand, the optimum, kills, batches."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.environments.base import EnvironmentFailed
from itercli.environments.pool import Worlds
from itercli.records import Node, Tree
from itercli.sampling.base import Request
from itercli.search.mcts import Search
from itercli.stages.base import StageError
from tests.environments.toy import DoorsSpec, task
from tests.stages.bench import Bench, Fake, Killed, Slots, die


def search(**options: Any) -> Search:
    given = {"role": "policy", "prompts": "tasks", "environment": DoorsSpec(), "sampler": Fake()}
    return Search(**given | options)


def path_of(request: Request) -> str:
    """What was answered on the way to the state."""
    return "".join(m.content for m in request.messages if m.role == "assistant")


def scripted(script: dict[str, str], candidates: int) -> Callable[[Request], str | None]:
    """Path -> the candidates there, in the order in which they are asked; "x" is too long a prompt."""

    def answer(request: Request) -> str | None:
        text = script[path_of(request)].split()[request.key[1] % candidates]
        return None if text == "x" else text

    return answer


def door(request: Request) -> str:
    return str(request.seed % 3)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, "trees")


def drawn(nodes: list[Node]) -> list[tuple[int | None, str, int, float, str]]:
    """(parent, answer, visits, value, marks) of each node."""
    return [
        (n.parent, n.turn.text if n.turn else "", n.visits, n.value, "c" * n.closed + "t" * n.terminal)
        for n in nodes
    ]


# -- by hand ------------------------------------------------------------------------------


def test_a_search_by_hand(bench: Bench) -> None:
    # Two rooms, doors 1 and 0 are right. Root: 1 and 2. Both end in the second room.
    script = {"": "1 2 1", "1": "0 2 0", "2": "0 0 0"}
    one = search(simulations=1, candidates=3, c_uct=0.25)
    (tree,) = bench.stage(one, Slots(3, answer=scripted(script, 3)), Tree, prompts=[task("10")])
    first = tree.nodes[3].parent
    assert first in (1, 2)
    below = {1: [("0", 1.0), ("2", 0.5)], 2: [("0", 0.5)]}[first]
    total = sum(score for _, score in below)
    assert drawn(tree.nodes)[:3] == [
        (None, "", len(below), total, ""),
        *((0, str(n), *((len(below), total, "c") if n == first else (0, 0.0, ""))) for n in (1, 2)),
    ]
    assert drawn(tree.nodes)[3:] == [(first, text, 1, score, "ct") for text, score in below]
    assert tree.simulations == 1
    assert bench.counts["duplicates"] == 1 + (3 - len(below))

    # The second simulation takes the other door, which closes the root; no third one is needed.
    again = Bench(bench.entry.path / "again", "trees")
    (tree,) = again.stage(
        search(simulations=8, candidates=3), Slots(3, answer=scripted(script, 3)), Tree, prompts=[task("10")]
    )
    assert tree.simulations == 2
    assert drawn(tree.nodes)[:3] == [(None, "", 3, 2.0, "c"), (0, "1", 2, 1.5, "c"), (0, "2", 1, 0.5, "c")]
    assert again.counts == {
        "simulations": 2, "nodes": 6, "duplicates": 4, "closed roots": 1, "calls: act": 9, "tokens": 18,
    }  # fmt: skip
    right = next(n for n in tree.nodes if n.turn and n.turn.score == 1)
    assert right.turn is not None
    assert right.turn.model_dump() == {
        "text": "0", "action": "0", "observation": "the end", "reward": 0.5, "score": 1.0, "done": True,
        "left_out": 0, "loss": True, "info": {}, "finish": "stop", "generated": None,
    }  # fmt: skip
    assert tree.meta["best"] == 1.0


def test_the_last_visited_child_with_the_higher_bound_is_taken(bench: Bench) -> None:
    # Three rooms. After one simulation each below 0 (worth 0) and 1 (worth 1/3 and more), UCT takes 1.
    script = {"": "0 1", "0": "1 2", "1": "1 2"}
    script |= {a + b: "1 2" for a in "01" for b in "12"}
    (tree,) = bench.stage(
        search(simulations=3, candidates=2, c_uct=0.25), Slots(answer=scripted(script, 2)), Tree,
        prompts=[task("100")],
    )  # fmt: skip
    low, high = tree.nodes[1], tree.nodes[2]
    assert (low.turn.text, high.turn.text) == ("0", "1")  # type: ignore[union-attr]
    # Nothing after the first room is right: each end is worth what it was worth there.
    assert (low.visits, low.value) == (2, 0.0)
    assert (high.visits, high.value) == (4, pytest.approx(4 / 3))
    bound = {n.id: n.value / n.visits + 0.25 * math.sqrt(math.log(4) / 2) for n in (low, high)}
    assert bound[high.id] > bound[low.id]
    assert high.closed
    assert not low.closed


def test_depth_ends_an_episode_with_what_it_has_reached(bench: Bench) -> None:
    script = {"": "1", "1": "look", "1look": "2"}
    (tree,) = bench.stage(
        search(simulations=3, candidates=1, max_depth=2), Slots(answer=scripted(script, 1)), Tree,
        prompts=[task("1111")],
    )  # fmt: skip
    assert drawn(tree.nodes) == [
        (None, "", 1, 0.25, "c"), (0, "1", 1, 0.25, "c"), (1, "look", 1, 0.25, "c"), (2, "2", 1, 0.25, "ct"),
    ]  # fmt: skip
    assert tree.nodes[3].turn is not None
    assert not tree.nodes[3].turn.done


def test_disasters_failures_and_long_prompts_are_ends(bench: Bench) -> None:
    script = {"": "1 trap", "1": "1 die", "11": "x x"}
    (tree,) = bench.stage(
        search(simulations=4, candidates=2), Slots(answer=scripted(script, 2)), Tree, prompts=[task("1111")]
    )
    trap = tree.nodes[2]
    assert trap.turn is not None
    assert (trap.value, trap.turn.score, trap.turn.info["disaster"]) == (0.0, 0.0, True)
    assert drawn(tree.nodes) == [
        (None, "", 3, 0.75, "c"), (0, "1", 2, 0.75, "c"), (0, "trap", 1, 0.0, "ct"),
        (1, "1", 1, 0.5, "ct"),  # too long a prompt: what had been reached counts
        (1, "die", 1, 0.25, "ct"),  # likewise where the environment failed
    ]  # fmt: skip
    for name in ("disasters", "environment failures", "too long", "closed roots"):
        assert bench.counts[name] == 1, name
    assert bench.counts["environment deaths"] == 3


def test_a_root_that_does_not_fit_is_a_tree_of_one(bench: Bench) -> None:
    (tree,) = bench.stage(search(), Slots(answer=lambda request: None), Tree, prompts=[task("1")])
    assert drawn(tree.nodes) == [(None, "", 1, 0.0, "ct")]


def test_stopping_at_the_first_success(bench: Bench) -> None:
    sampler = Slots(answer=door)
    (tree,) = bench.stage(
        search(simulations=500, stop_at_success=True), sampler, Tree, prompts=[task("2101")]
    )
    assert tree.meta["best"] == 1.0
    assert not tree.nodes[0].closed
    assert any(n.turn and n.turn.score == 1 for n in tree.nodes[-4:])


# -- tasks --------------------------------------------------------------------------------

TASKS = [task(doors) for doors in ("2101", "0120", "1111", "2220", "0001", "1202")]


def test_the_optimum_is_found_in_a_part_of_the_tree(bench: Bench) -> None:
    # Twelve candidates seldom miss one of the three doors: the optimum is there to be found.
    wide = search(simulations=12, candidates=12)
    trees = bench.stage(wide, Slots(16, answer=door), Tree, prompts=TASKS)
    assert [tree.meta["best"] for tree in trees] == [1.0] * len(TASKS)
    ends = [sum(n.terminal for n in tree.nodes) for tree in trees]
    assert max(ends) < 3**4 / 2
    # Its visits tell the way: at the root, the right door was taken most often.
    for tree, doors in zip(trees, TASKS, strict=True):
        first = max((n for n in tree.nodes if n.parent == 0), key=lambda n: n.value / n.visits)
        assert first.turn is not None
        assert first.turn.action == doors.meta["task"]["doors"][0]


def test_killed_after_any_call_gives_the_same_trees(tmp_path: Path) -> None:
    tasks, stage = [task("210"), task("01")], search(simulations=1, candidates=3)

    def answer(request: Request) -> str:
        return ("0", "1", "2", "look", "trap")[request.seed % 5]

    whole = Bench(tmp_path / "whole", "trees")
    trees = whole.stage(stage, Slots(1, answer=answer), Tree, prompts=tasks)
    calls = len(whole.journaled)
    assert calls > 12
    for k in range(1, calls + 1):
        bench = Bench(tmp_path / str(k), "trees")
        with pytest.raises(Killed):
            bench.stage(stage, Slots(5, random.Random(k), after=die(k), answer=answer), Tree, prompts=tasks)
        sampler = Slots(3, random.Random(k + 100), answer=answer)
        assert bench.stage(stage, sampler, Tree, prompts=tasks) == trees
        assert len(sampler.asked) == calls - k
        assert bench.counts == whole.counts


def test_equal_answers_step_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[str, ...]] = []
    play = Worlds.play

    def count(self: Worlds, task_id: str, task: Any, actions: Any) -> Any:
        played.append((task_id, *actions))
        return play(self, task_id, task, actions)

    monkeypatch.setattr(Worlds, "play", count)
    bench.stage(search(simulations=20), Slots(8, answer=door), Tree, prompts=TASKS[:3])
    assert bench.counts["duplicates"] > 20
    assert len(played) == len(set(played)) == bench.counts["nodes"] - 3


def test_many_tasks_keep_all_slots_full(bench: Bench) -> None:
    sampler = Slots(16, random.Random(3), answer=door)
    tasks = [task("2101", id=f"t{n}") for n in range(24)]
    bench.stage(search(simulations=4), sampler, Tree, prompts=tasks)
    full = sum(busy == 16 for busy in sampler.busy)
    assert full / len(sampler.busy) > 0.8
    alone = Slots(16, answer=door)
    Bench(bench.entry.path / "alone", "trees").stage(search(simulations=4), alone, Tree, prompts=tasks[:1])
    assert max(alone.busy) == 4  # the candidates of one state


def test_concurrent_bounds_the_tasks_under_way_and_changes_nothing(bench: Bench) -> None:
    trees = bench.stage(search(simulations=2), Slots(40, answer=door), Tree, prompts=TASKS)
    sampler = Slots(40, answer=door)
    bounded = Bench(bench.entry.path / "bounded", "trees")
    assert bounded.stage(search(simulations=2, concurrent=2), sampler, Tree, prompts=TASKS) == trees
    assert max(sampler.busy) == 8


def test_progress_counts_simulations(bench: Bench) -> None:
    bench.stage(search(simulations=3, candidates=2), Slots(4, answer=door), Tree, prompts=TASKS)
    last = [m for m in bench.messages if m["t"] == "progress"][-1]
    assert (last["done"], last["total"], last["unit"]) == (18, 18, "simulations")
    assert 0.25 < last["metrics"]["best"] <= 1


def test_a_task_that_cannot_begin_is_given_up_and_the_others_go_on(bench: Bench) -> None:
    trees = bench.stage(search(), Slots(answer=door), Tree, prompts=[task(""), task("1")])
    assert [tree.prompt_id for tree in trees] == ["doors 1"]
    assert bench.counts["gave up: environment failed"] == 1
    failed = [m["fields"] for m in bench.messages if m.get("event") == "environment_failed"]
    assert failed == [{"prompt": "doors ", "environment": "test.doors", "error": "no rooms"}]
    with pytest.raises(StageError, match="no task could be searched"):
        Bench(bench.entry.path / "none", "trees").stage(search(), Slots(), Tree, prompts=[task("")])


def test_what_is_missing_is_said_before_anything_is_asked(bench: Bench) -> None:
    class Missing(DoorsSpec):
        def build(self) -> Any:
            raise EnvironmentFailed("pip install itercli[doors]")

    Missing.NAME = "test.doors"
    sampler = Slots()
    with pytest.raises(EnvironmentFailed, match="pip install"):
        bench.stage(search(environment=Missing()), sampler, Tree, prompts=[task("1")])
    assert sampler.loaded == []


def test_greedy_candidates_would_be_equal() -> None:
    assert search(temperature=0).check()[0][0] == "candidates"
    assert search(temperature=0, candidates=1).check() == []


def test_journal_holds_turns_not_environments(bench: Bench) -> None:
    bench.stage(search(simulations=1, candidates=1), Slots(answer=door), Tree, prompts=[task("10")])
    call = bench.journaled[0]
    assert (call.step, call.prompt_id, call.index) == ("act", "doors 10", 0)
    assert call.meta.keys() == {"action", "observation", "reward", "score", "done", "info", "left_out"}

"""TextWorld: games from seeds, their solutions, what reaches the interpreter."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from itercli.environments import textworld
from itercli.environments.base import EnvironmentFailed, Task
from itercli.environments.pool import Worlds
from itercli.environments.textworld import Game, TextWorld, TextWorldSpec

TASK: Task = {"seed": 1, "rooms": 2, "objects": 4, "quest_length": 2, "quests": 2}
needs_textworld = pytest.mark.skipif(
    find_spec("textworld") is None, reason="TextWorld is not installed: pip install 'itercli[textworld]'"
)


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("games")


@pytest.fixture
def world(games: Path) -> Iterator[TextWorld]:
    made = TextWorld(games)
    yield made
    made.close()


@needs_textworld
@pytest.mark.slow
def test_the_solution_wins_quest_by_quest(world: TextWorld) -> None:
    first = world.reset(TASK)
    assert "-= " in first
    assert "$$" not in first
    steps = []
    for command in world.solution():
        assert command in world.valid_actions()
        steps.append(world.step(command))
    assert [s.score for s in steps if s.reward] == [0.5, 1.0]
    assert [s.done for s in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(">" in s.observation or "RESTART" in s.observation for s in steps)


@needs_textworld
@pytest.mark.slow
def test_a_seed_determines_the_game(games: Path, tmp_path: Path) -> None:
    game = Game(**TASK)
    path = game.file(games)
    again = game.file(tmp_path)
    for suffix in (".z8", ".json"):
        one, two = (hashlib.sha256(p.with_suffix(suffix).read_bytes()).hexdigest() for p in (path, again))
        assert one == two
    made = path.stat().st_mtime_ns
    assert game.file(games).stat().st_mtime_ns == made
    assert {p.suffix for p in tmp_path.iterdir()} == {".z8", ".json"}
    other = game.model_copy(update={"seed": 2}).file(games)
    assert other.read_bytes() != path.read_bytes()


@needs_textworld
@pytest.mark.slow
def test_several_at_once_do_not_mix(games: Path) -> None:
    tasks: dict[str, Task] = {"a": TASK, "b": TASK | {"seed": 2}}
    plans = {}
    for name, task in tasks.items():
        world = TextWorld(games)
        world.reset(task)
        plans[name] = world.solution()
        world.close()
    played = []
    for instances in (1, 2):
        worlds = Worlds(TextWorldSpec(games=games, instances=instances))
        seen = {}
        for n in range(1, 1 + max(map(len, plans.values()))):
            for name, plan in plans.items():
                if n <= len(plan):
                    seen[name, n] = worlds.play(name, tasks[name], plan[:n])
        worlds.close()
        played.append(seen)
    assert played[0] == played[1]
    assert all(played[0][name, len(plan)].score == 1.0 for name, plan in plans.items())


@needs_textworld
@pytest.mark.slow
def test_the_interpreter_is_out_of_reach(world: TextWorld, games: Path) -> None:
    world.reset(TASK)
    room = world.step("look").observation
    for command in ("quit", "Restart", "save", "restore", "undo", "", " \n"):
        assert world.step(command).observation == textworld.UNKNOWN_VERB
    assert world.step("look\n").observation == room
    assert world.step("dance wildly").score == 0.0
    limited = TextWorld(games, step_limit=2)
    limited.reset(TASK)
    assert [limited.step("look").done, limited.step("look").done] == [False, True]
    limited.close()


REFUSED = (
    "look. save", "look, save", "me, SAVE", "look then save", "look.save", "transcripts", "look. script",
    "look. restore", "look. restart", "y. then q",
    "look\x00", "\x00", "\x1b", "\ud800", "\\save", "look \\", "a" + "é" * 150, "look " * 40,
)  # fmt: skip


@pytest.mark.parametrize("command", REFUSED)
def test_what_does_not_reach_the_game(command: str) -> None:
    assert not textworld.reaches_game(command)


@pytest.mark.parametrize(
    "command",
    ["take key.", "open door. go south", "take key, lamp", "examine script", "strengthen q", "y" * 198],
)
def test_what_reaches_the_game(command: str) -> None:
    assert textworld.reaches_game(command)


@needs_textworld
@pytest.mark.slow
def test_an_episode_leaves_nothing(world: TextWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world.reset(TASK)
    room = world.step("look").observation
    world.step(world.solution()[0])
    there = world.step("look").observation
    for command in REFUSED:
        assert world.step(command).observation == textworld.UNKNOWN_VERB
    assert world.step("look").observation == there
    world.reset(TASK)
    world.step("look. restore")
    assert world.step("look").observation == room
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "message"),
    [({}, "seed: Field required"), (TASK | {"rooms": 0}, "rooms: "), (TASK | {"size": 3}, "size: ")],
)
def test_what_is_no_game(task: Task, message: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=message):
        TextWorld(tmp_path).reset(task)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise textworld.PackageNotFoundError(name)

    monkeypatch.setattr(textworld, "version", none)
    with pytest.raises(EnvironmentFailed, match=r"itercli\[textworld\]"):
        TextWorldSpec().build()

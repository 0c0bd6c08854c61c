"""Agent-R's whole loop in a game that a model wins by chance: trees, verdicts, replays, training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itercli.engine.rows import read_rows
from itercli.records import Dialogue, Episode, Prompt, Tree
from tests.conftest import Project
from tests.e2e.conftest import the_run

pytestmark = pytest.mark.slow

GAME = '''
"""Three answers of even length win; others change nothing."""

from itercli.data.base import Source
from itercli.environments.base import Environment, EnvironmentSpec, Step
from itercli.records import Message, Prompt
from itercli.registry import register


class World(Environment):
    def reset(self, task):
        self.even = 0
        return f"Task {task}."

    def step(self, action):
        self.even += len(action) % 2 == 0
        return Step(f"{self.even} so far", score=self.even / 3, done=self.even == 3)


@register("environment", "even")
class Even(EnvironmentSpec):
    def build(self):
        return World()


@register("source", "even")
class Tasks(Source):
    first: int = 0
    n: int = 2

    def prompts(self):
        for i in range(self.first, self.first + self.n):
            meta = {"environment": "even", "task": {"n": i}}
            yield Prompt(id=f"even/{i}", messages=[Message(role="user", content="Win.")], meta=meta)

    def fingerprint(self):
        return {}
'''
SIZES = {"max_new_tokens": 4}
LOOP = (
    "recipe=agent_r",
    "plugins=[game.py]",
    "model=tiny-rtl",
    "sampler=transformers",
    "iterations=2",
    "data.environment={name: even, intercept: {wait: ok.}}",
    "data.train={name: even}",
    "data.eval={name: even, first: 9}",
    "before.attempts.max_turns=2",
    "before.bad_starts.score=0.7",
    "before.bad_starts.min_steps=1",
    "before.bad_starts.solvable=false",
    "data.general=null",
    "loop.judge.judge=actor",
    "training.epochs=[3, 1]",
    "training.batch_size=8",
    "before.attempts.temperature=30",  # almost any token: else the shipped model knows one answer
    "loop.search.temperature=30",
    "loop.search.max_depth=4",
    "loop.search.simulations=4",
    "loop.judge.unreadable=uncertain",
    "loop.judge.max_pairs=6",
    "loop.rollout.max_turns=4",
    "loop.recover.max_turns=4",
    "training.threads=1",
    *(f"before.attempts.{name}={value}" for name, value in SIZES.items()),
    *(
        f"loop.{stage}.{n}={v}"
        for stage in ("search", "judge", "rollout", "recover")
        for n, v in SIZES.items()
    ),
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder with a finished run of two iterations."""
    project = Project(tmp_path_factory.mktemp("agent_r"))
    (project.path / "game.py").write_text(GAME)
    project.iter("run", *LOOP)
    return project


def rows(project: Project, node: str, record: Any) -> list[Any]:
    """A stage's rows, as they are stored."""
    return list(read_rows(Path(the_run(project).path) / node / "rows.parquet", record))


def test_revisions_hold_and_are_what_the_policy_is_trained_on(done: Project) -> None:
    trees = rows(done, "iteration-01/judge", Tree)
    assert sum(len(tree.meta["pairs"]) for tree in trees) > 0
    dialogues = rows(done, "iteration-01/revise", Dialogue)
    assert {row.origin for row in dialogues} == {"good", "revision"}
    for row in dialogues:
        if row.origin == "revision":
            # The game only gets better, so every splice ends in a win.
            assert row.meta["replay"]["score"] == 1.0
            assert sum(row.loss) == len(row.meta["actions"]) - row.meta["bad_steps"]
    metrics = {(m["stage"], m["iteration"]): m["metrics"] for m in the_run(done).metrics()}
    assert metrics["revise", 1]["replay_pass_rate"] == 1.0
    assert metrics["judge", 1]["verdict_unreadable"] > 0
    trained = metrics["train", 1]
    assert trained["learnt_turns"] == sum(sum(row.loss) for row in dialogues)
    assert trained["groups"] == len(dialogues)
    # Alpha is annealed, and so are epochs: three, then one.
    assert [metrics["judge", n]["alpha"] for n in (1, 2)] == [0.5, 0.7]
    batches = -(-len(dialogues) // 8)
    assert trained["steps"] == 3 * batches
    assert metrics["train", 2]["steps"] == -(-metrics["train", 2]["examples"] // 8)


def test_recovery_begins_where_the_start_model_failed(done: Project) -> None:
    starts = {row.id: row for row in rows(done, "before/bad_starts", Prompt)}
    episodes = rows(done, "iteration-02/recover", Episode)
    assert {e.prompt_id for e in episodes} == set(starts)
    for episode in episodes:
        given = starts[episode.prompt_id].meta["prefix"]
        assert [turn.text for turn in episode.turns[: len(given)]] == given
        assert not any(turn.loss for turn in episode.turns[: len(given)])
        assert all(turn.loss for turn in episode.turns[len(given) :])


def test_the_same_command_has_nothing_to_do(done: Project) -> None:
    assert "nothing to do" in done.iter("run", *LOOP).stdout

"""The search stage in ScienceWorld: neither the death of the JVM nor of the whole process changes a tree."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from itercli.environments import scienceworld_jvm
from itercli.environments.base import EnvironmentFailed
from itercli.environments.scienceworld import ScienceWorldSpec
from itercli.records import Message, Prompt, Tree
from itercli.sampling.base import Request
from itercli.search.mcts import Search
from tests.stages.bench import Bench, Fake, Killed, Slots

pytestmark = pytest.mark.slow
# How the package solves variation 2; of the last task only the beginning, worth 0.75.
GOLD = {
    "find-non-living-thing": ("look around", "focus on glass jar", "move glass jar to blue box"),
    "lifespan-longest-lived": (
        "open door to outside", "go to outside", "focus on egg giant tortoise", "wait1",
    ),
    "find-animal": ("open door to outside", "go to outside", "look around", "focus on blue jay"),
}  # fmt: skip
DISTRACTORS = ("inventory", "wait1", "open cupboard", "go to kitchen", "focus on agent")

try:
    scienceworld_jvm.require()
except EnvironmentFailed as error:
    pytest.skip(str(error), allow_module_level=True)


def task(name: str) -> Prompt:
    meta = {"environment": "scienceworld", "task": {"task": name, "variation": 2}}
    return Prompt(id=name, messages=[Message(role="user", content="Do it.")], meta=meta)


def wanderer(request: Request) -> str:
    """Goes on with the solution three times of four, else does something else."""
    gold = GOLD[str(request.key[0])]
    said = [m.content.rpartition("Action: ")[2] for m in request.messages[3:] if m.role == "assistant"]
    left = [action for action in gold if action not in said]
    rng = random.Random(request.seed)
    action = left[0] if left and rng.random() < 0.75 else rng.choice(DISTRACTORS)
    return f"Thought: {len(said)}\nAction: {action}"


def test_a_killed_jvm_or_process_leaves_the_trees_as_they_were(tmp_path: Path) -> None:
    # Fewer instances than tasks, so that states are replayed without deaths, too.
    spec = ScienceWorldSpec(heap_mb=256, instances=2)
    stage = Search(
        role="policy", prompts="tasks", environment=spec, sampler=Fake(),
        simulations=2, candidates=3, max_depth=4,
    )  # fmt: skip
    tasks = [task(name) for name in GOLD]
    calm, wild = Bench(tmp_path / "calm", "trees"), Bench(tmp_path / "wild", "trees")
    jvms: list[int] = []

    def disturb(answers: int) -> None:
        if answers == 12:
            jvms.append(spec.jvm().pid)
            os.kill(jvms[0], signal.SIGKILL)
        elif answers == 24:
            jvms.append(spec.jvm().pid)
            raise Killed

    try:
        trees = calm.stage(stage, Slots(6, random.Random(0), answer=wanderer), Tree, prompts=tasks)
        assert [max(n.turn.score for n in t.nodes if n.turn) for t in trees] == [1.0, 1.0, 0.75]
        calls = len(calm.journaled)
        assert calls > 36

        # The same live environments first, none of them after the end of the process.
        wild.shared.update(calm.shared)
        slots = Slots(6, random.Random(1), after=disturb, answer=wanderer)
        with pytest.raises(Killed):
            wild.stage(stage, slots, Tree, prompts=tasks)
        (worlds,) = wild.shared.values()
        assert worlds.counts["deaths"] > 0
        assert len(set(jvms)) == 2
        spec.shut_down()
        wild.shared.clear()
        slots = Slots(2, random.Random(2), answer=wanderer)
        assert wild.stage(stage, slots, Tree, prompts=tasks) == trees
        assert len(slots.asked) == calls - 24
        assert wild.counts == calm.counts
    finally:
        spec.shut_down()

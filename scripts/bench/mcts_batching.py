"""Completions per second of tree search: many tasks at once against one completion at a time.

Both searches draw with the same model, budget and sampler settings. `batched` is stage `search` as
it is: candidates of a state as one batch, tasks side by side. `one by one` is the order of
Agent-R's released code: a task after the other, each completion awaited before the next is asked
for. Their trees are the same, and so is the number of completions, which is checked. The game is a
small one, so what is measured is sampling. Machines differ and are shared, so read the ratio.

    python scripts/bench/mcts_batching.py
    python scripts/bench/mcts_batching.py --model DIR --tasks 16
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from itercli.engine.context import Context, StoredArtifact
from itercli.engine.rows import read_rows, write_rows
from itercli.engine.store import ROWS, Store
from itercli.environments.base import Conversation, Environment, EnvironmentSpec, Step, Task
from itercli.records import Message, ModelRef, Prompt, Tree
from itercli.sampling.base import Request, Sampled, Sampler
from itercli.sampling.specs import TransformersSpec
from itercli.search.mcts import Search


class Rooms(Environment):
    """Any answer leads on, to a room that depends on it; the score is what the last one is worth."""

    def reset(self, task: Task) -> str:
        self.at = task["start"]
        return f"You are in room {self.at}."

    def step(self, action: str) -> Step:
        self.at = (31 * self.at + sum(action.encode())) % 997
        return Step(f"You are in room {self.at}.", score=self.at / 997)


class RoomsSpec(EnvironmentSpec):
    """See `Rooms`."""

    conversation: Conversation = Conversation(instruction="Say where to go.\n{task}", action="line")

    def build(self) -> Environment:
        return Rooms()


RoomsSpec.NAME = "rooms"


class OneByOne:
    """A sampler that is asked for one completion at a time."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def load(self, model: ModelRef, *others: ModelRef) -> dict[str, Any]:
        return self.sampler.load(model, *others)

    def generate(self, requests: Iterable[Request | None], stopping: Callable[[], bool]) -> Iterator[Sampled]:
        for request in requests:
            assert request is not None
            yield from self.sampler.generate([request], stopping)

    def close(self) -> None:
        self.sampler.close()


def search(
    folder: Path, stage: Search, sampler: Any, policy: ModelRef, tasks: list[Prompt]
) -> tuple[float, Any]:
    """Seconds that a search took, and its trees."""
    store = Store(folder)
    given, made = store.entry("prompts", "tasks"), store.entry("trees", "trees")
    for entry in (given, made):
        entry.path.mkdir(parents=True)
    write_rows(given.path / ROWS, Prompt, tasks)
    ctx = Context(
        name="bench", iteration=1, seed=0, entry=made, inputs={"prompts": [StoredArtifact(given, "tasks")]},
        models={"policy": policy}, shared={}, stop=threading.Event(), send=lambda message: None,
    )  # fmt: skip
    shared = ctx.shared
    ctx.shared = lambda key, make: sampler if key.startswith("sampler:") else shared(key, make)  # type: ignore
    begun = time.perf_counter()
    stage.run(ctx)  # type: ignore[arg-type]
    seconds = time.perf_counter() - begun
    ctx.close()
    return seconds, list(read_rows(made.path / ROWS, Tree))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder of a model instead of the shipped tiny one")
    parser.add_argument("--tasks", type=int, default=12)
    parser.add_argument("--simulations", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--max-depth", type=int, default=3)
    parser.add_argument("--max-new-tokens", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    folder = args.model or Path(__file__).parents[2] / "itercli/models/tiny_rtl"
    policy = ModelRef(base=str(folder), version="policy@0", digest="0")
    spec = TransformersSpec(batch_size=args.batch_size, device=args.device)
    stage = Search(
        role="policy", prompts="tasks", environment=RoomsSpec(), sampler=spec, simulations=args.simulations,
        candidates=args.candidates, max_depth=args.max_depth, max_new_tokens=args.max_new_tokens,
    )  # fmt: skip
    tasks = [
        Prompt(
            id=f"t{n}",
            messages=[Message(role="user", content="Say where to go.")],
            meta={"environment": "rooms", "task": {"start": n}},
        )
        for n in range(args.tasks)
    ]
    sampler = spec.build()
    sampler.load(policy)
    # The smallest batch that the sampler has (8 rows), since idle rows cost time as well.
    alone = TransformersSpec(batch_size=1, device=args.device).build()
    alone.load(policy)
    ways = {"batched": sampler, "one by one": OneByOne(alone)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    trees: dict[str, Any] = {}
    completions = 0
    for _ in range(args.repeats):  # alternating, so that a busy neighbour hits both; the best of each counts
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as temporary:
                seconds, trees[name] = search(Path(temporary), stage, way, policy, tasks)
            drawn = [tree.meta["counts"].get("duplicates", 0) + len(tree.nodes) - 1 for tree in trees[name]]
            completions = sum(drawn)
            rates[name].append(completions / seconds)
    best = {name: round(max(values), 1) for name, values in rates.items()}
    same = trees["batched"] == trees["one by one"]
    print(json.dumps({
        "tasks": args.tasks, "completions": completions, "same trees": same, **best,
        "ratio": round(best["batched"] / best["one by one"], 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()

"""What a sweep would compute, and what sharing saves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from itercli.engine.runs import Run
from itercli.engine.status import statuses
from itercli.engine.store import Store
from itercli.sweep.points import Planned


@dataclass(frozen=True)
class Preview:
    """Stages of a sweep; a stage that stands in one plan several times counts once.

    Attributes:
        points: All points.
        done: Names of the runs that are finished, with every artifact in place.
        stages: Of all points, each with a store of its own.
        different: What is left of them as points share.
        todo: What of that has to run, or go on.
    """

    points: int
    done: frozenset[str]
    stages: int
    different: int
    todo: int

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        return {**asdict(self), "done": len(self.done)}

    def __str__(self) -> str:
        shared = self.stages - self.different
        return (
            f"{self.points} points, {len(self.done)} done already; "
            f"{self.different} stages ({self.stages} one by one, {shared} saved by sharing): "
            f"{self.different - self.todo} to reuse, {self.todo} to run"
        )


def preview(planned: list[Planned], store: Store) -> Preview:
    """Compare the plans of all points with the store."""
    done, todo, keys = [], set(), set()
    stages = 0
    for p in planned:
        status = statuses(p.plan, store)
        own = {n.key for n in p.plan.nodes.values()}
        stages += len(own)
        keys |= own
        unfinished = {n.key for i, n in p.plan.nodes.items() if status[i].action != "reuse"}
        info = Run(store.root.parent / p.point.run).info
        if info.get("state") == "finished" and info.get("stopped_early"):
            # Iterations after the early end are in the plan, but nobody wants them.
            unfinished &= {place["key"] for place in info["nodes"].values()}
        if info.get("state") == "finished" and not unfinished:
            done.append(p.point.run)
        todo |= unfinished
    return Preview(len(planned), frozenset(done), stages, len(keys), len(todo))

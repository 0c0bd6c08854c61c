"""What a sweep would compute, and what sharing saves."""

from __future__ import annotations

from dataclasses import dataclass

from itercli.engine.runs import Run
from itercli.engine.status import statuses
from itercli.engine.store import Store
from itercli.sweep.points import Planned


@dataclass(frozen=True)
class PointPreview:
    """Stages of one point; one that stands in its plan several times counts once.

    Attributes:
        stages: All of them.
        reuse: Finished, in the store.
        shared: Made by an earlier point of the sweep, or together with it.
        todo: To be made, or gone on with, by this point.
        done: Whether the run is finished, with every artifact in place.
    """

    stages: int
    reuse: int
    shared: int
    todo: int
    done: bool


@dataclass(frozen=True)
class Preview:
    """What a sweep would compute.

    Attributes:
        points: Run -> its stages.
        different: Stages of all points, those that several have counted once.
    """

    points: dict[str, PointPreview]
    different: int

    @property
    def done(self) -> set[str]:
        """Names of the runs that are finished."""
        return {run for run, p in self.points.items() if p.done}

    def total(self) -> dict[str, int]:
        """The numbers of the whole sweep; `stages` is what the points would take one by one."""
        each = self.points.values()
        return {
            "points": len(self.points),
            "done": len(self.done),
            "stages": sum(p.stages for p in each),
            "different": self.different,
            "todo": sum(p.todo for p in each),
        }

    def __str__(self) -> str:
        n = self.total()
        return (
            f"{n['points']} points, {n['done']} done already; {n['different']} stages "
            f"({n['stages']} one by one, {n['stages'] - n['different']} saved by sharing): "
            f"{n['different'] - n['todo']} to reuse, {n['todo']} to run"
        )


def preview(planned: list[Planned], store: Store) -> Preview:
    """Compare the plans of all points with the store."""
    points = {}
    todo: set[str] = set()
    known: set[str] = set()
    for p in planned:
        status = statuses(p.plan, store)
        own = {n.key for n in p.plan.nodes.values()}
        unfinished = {n.key for i, n in p.plan.nodes.items() if status[i].action != "reuse"}
        info = Run(store.root.parent / p.point.run).info
        finished = info.get("state") == "finished"
        if finished and info.get("stopped_early"):
            # Iterations after the early end are in the plan, but nobody wants them.
            unfinished &= {place["key"] for place in info["nodes"].values()}
        points[p.point.run] = PointPreview(
            stages=len(own),
            reuse=len(own - unfinished),
            shared=len(unfinished & todo),
            todo=len(unfinished - todo),
            done=finished and not unfinished,
        )
        todo |= unfinished
        known |= own
    return Preview(points, len(known))

"""Stage `episode_metrics`: how well a role did in its environments."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, Literal

from pydantic import Field, field_validator

from itercli.records import Episode, Prompt
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.summary import SummaryStage, Values

REPEATS = re.compile(r"repeats@([1-9]\d*)")
ALLOWED = "score, success, turns, repeats@N (N = 1, 2, ...)"


@register("stage", "episode_metrics")
class EpisodeMetrics(SummaryStage):
    """Means over tasks, with intervals: in all, by environment where there are several, by group.

    A task's value is the mean over its episodes. How the episodes ended is added as shares
    (``ended done`` ...). Turns that a task gave (`meta.prefix`) are no turns of the policy.
    """

    uses: Literal["episode_metrics"] = "episode_metrics"
    of: tuple[str, ...] = Field(min_length=1, description="The rollout, or several, that are summarised.")
    metrics: tuple[str, ...] = Field(
        ("score", "success", "turns", "repeats@2"),
        min_length=1,
        description="score; success: share with success_at; turns; repeats@N: runs of N actions that the "
        "episode had seen before.",
    )
    by: str | None = Field("environment", description="Task meta field that metrics are broken down by.")
    success_at: float = Field(1.0, gt=0, le=1, description="Score from which an episode is a success.")

    @field_validator("of", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    def links(self, name: str) -> list[Link]:
        return [Link("of", ref, ("episodes",), "of") for ref in self.of]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"]
        return params

    def check(self) -> list[tuple[str, ...]]:
        unknown = [
            m for m in self.metrics if m not in ("score", "success", "turns") and not REPEATS.fullmatch(m)
        ]
        return [("metrics", f"episodes have no metric {unknown[0]!r}", ALLOWED)] if unknown else []

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        episodes = [e for a in ctx.inputs["of"] for e in a.rows(Episode)]
        if not episodes:
            raise StageError(f"{ctx.name}: {', '.join(self.of)} has no episodes to summarise")
        found = {metric: episode_values(metric, episodes, self.success_at) for metric in self.metrics}
        # `check` has refused names that episodes have no values for.
        values: dict[str, Values] = {metric: dict(of) for metric, of in found.items() if of is not None}
        clusters = self.clusters_of(ctx.name, prompts.values())
        result: dict[str, Any] = {m: self.mean(of, ctx.seed, clusters) for m, of in values.items()}
        where = {e.prompt_id: str(e.meta["environment"]) for e in episodes}
        for name in sorted(set(where.values())) if len(set(where.values())) > 1 else ():
            for metric, of in values.items():
                mine = {task: value for task, value in of.items() if where[task] == name}
                result[f"{metric} {name}"] = self.mean(mine, ctx.seed, clusters)
        ended = Counter(e.finish for e in episodes)
        result |= {f"ended {finish}": n / len(episodes) for finish, n in sorted(ended.items())}
        groups = self.table(values, prompts.values(), ctx.seed, clusters)
        ctx.finish_file("groups.json", {"by": self.by, "groups": groups})
        ctx.finish_metrics(result)


def episode_values(metric: str, episodes: Iterable[Episode], success_at: float) -> dict[str, float] | None:
    """A metric's value for each task, the mean over its episodes; None if episodes have no such metric."""
    of = _measure(metric, success_at)
    if of is None:
        return None
    found: dict[str, list[float]] = {}
    for episode in episodes:
        found.setdefault(episode.prompt_id, []).append(of(episode))
    return {task: fmean(numbers) for task, numbers in found.items()}


def _measure(metric: str, success_at: float) -> Callable[[Episode], float] | None:
    if match := REPEATS.fullmatch(metric):
        n = int(match[1])
        return lambda episode: repeats(own_actions(episode), n)
    measures: dict[str, Callable[[Episode], float]] = {
        "score": lambda episode: episode.score,
        "success": lambda episode: float(episode.score >= success_at),
        "turns": lambda episode: len(own_actions(episode)),
    }
    return measures.get(metric)


def own_actions(episode: Episode) -> list[str]:
    """What the policy did itself."""
    return [turn.action for turn in episode.turns[episode.meta.get("given", 0) :]]


def repeats(actions: Sequence[str], n: int) -> int:
    """How many of an episode's n-grams of actions stood in it before."""
    grams = [tuple(actions[i : i + n]) for i in range(len(actions) - n + 1)]
    return len(grams) - len(set(grams))

"""Stage `agent_r.bad_starts`: tasks that begin in the middle of an attempt that went wrong."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field

from itercli.papers.agent_r.pairs import NEAR, paths
from itercli.recipe.seeds import seed_for
from itercli.records import Episode, Prompt, Tree, Turn
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext, StageError


@register("stage", "agent_r.bad_starts")
class BadStarts(Stage):
    """Cuts failed attempts at a random step; a `rollout` takes what is left as given (`meta.prefix`).

    The score of such rollouts is the recovery score (Agent-R, table 3; how the paper chose its
    bad starts is not said).
    """

    OUTPUT = "prompts"
    SEEDED = True
    WITH_PROMPTS = True

    uses: Literal["agent_r.bad_starts"] = "agent_r.bad_starts"
    episodes: str | None = Field(None, description="A stage with episodes, of the start model say.")
    trees: str | None = Field(None, description="A stage with search trees, instead or as well.")
    score: float = Field(0.0, ge=0, lt=1, description="Attempts that ended with this score at most are bad.")
    min_steps: int = Field(1, ge=1, description="Steps that are given, at least.")
    max_steps: int | None = Field(
        None, ge=1, description="At most; none: all but those that end the episode."
    )
    solvable: bool = Field(
        False,
        description="Only of tasks that another attempt solved, so that what is measured is finding back and "
        "not what the policy can't do at all.",
    )
    per_task: int = Field(1, ge=1, description="Bad starts of a task at most.")
    limit: int | None = Field(None, ge=1, description="Tasks at most, in their order.")

    def clusters(self) -> tuple[str, ...]:
        return ("of",)

    def links(self, name: str) -> list[Link]:
        found = []
        if self.episodes is not None:
            found.append(Link("episodes", self.episodes, ("episodes",), "episodes"))
        if self.trees is not None:
            found.append(Link("trees", self.trees, ("trees",), "trees"))
        return found

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["episodes"], params["trees"]
        return params

    def check(self) -> list[tuple[str, ...]]:
        problems: list[tuple[str, ...]] = []
        if self.episodes is None and self.trees is None:
            problems.append(("episodes", "no attempts to begin from", "a stage as `episodes` or as `trees`"))
        if self.max_steps is not None and self.max_steps < self.min_steps:
            problems.append(("max_steps", "less than min_steps", f"{self.min_steps} or more"))
        return problems

    def run(self, ctx: StageContext) -> None:
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        attempts: dict[str, list[Sequence[Turn]]] = {}
        for a in ctx.inputs.get("episodes", []):
            for episode in a.rows(Episode):
                if episode.finish != "error":
                    attempts.setdefault(episode.prompt_id, []).append(episode.turns)
        for a in ctx.inputs.get("trees", []):
            for tree in a.rows(Tree):
                attempts.setdefault(tree.prompt_id, []).extend(path.turns for path in paths(tree))
        counts: Counter[str] = Counter(tasks=len(attempts))
        rows: list[Prompt] = []
        for task in (task for task in prompts if task in attempts):
            if self.solvable and not any(t and t[-1].score >= 1 - NEAR for t in attempts[task]):
                counts["tasks_never_solved"] += 1
                continue
            found = self._starts(attempts[task], random.Random(seed_for(ctx.seed, task)))
            counts["tasks_without"] += not found
            rows += [_begun(prompts[task], n, given) for n, given in enumerate(found)]
            counts["tasks_with"] += bool(found)
            if counts["tasks_with"] == self.limit:
                break
        if not rows:
            raise StageError(
                f"{ctx.name}: none of {counts['tasks']} tasks has an attempt that stayed at a score of "
                f"{self.score:g} for {self.min_steps} steps"
                f"{' and another that solved it' if self.solvable else ''}; raise score, or take more tasks"
            )
        counts["steps_given"] = sum(len(row.meta["prefix"]) for row in rows)
        ctx.finish_rows(Prompt, iter(rows), **counts)

    def _starts(self, attempts: Iterable[Sequence[Turn]], rng: random.Random) -> list[Sequence[Turn]]:
        """Beginnings of bad attempts, each once."""
        bad = [turns for turns in attempts if turns and turns[-1].score <= self.score + NEAR]
        rng.shuffle(bad)
        found: dict[tuple[str, ...], Sequence[Turn]] = {}
        for turns in bad:
            # Something has to be left to do after the last given step.
            usable = [n for n in range(1, len(turns) + 1) if not turns[n - 1].done]
            most = min(len(usable), self.max_steps or len(usable))
            if most >= self.min_steps:
                given = turns[: rng.randint(self.min_steps, most)]
                if given[-1].score <= self.score + NEAR:
                    found.setdefault(tuple(turn.text for turn in given), given)
            if len(found) == self.per_task:
                break
        return list(found.values())


def _begun(prompt: Prompt, number: int, given: Sequence[Turn]) -> Prompt:
    meta = {"prefix": [turn.text for turn in given], "of": prompt.id, "bad_score": given[-1].score}
    return prompt.model_copy(update={"id": f"{prompt.id}/bad{number}", "meta": prompt.meta | meta})

"""Stage `search`: Monte Carlo tree search in environments, many tasks at once.

Source: Agent-R (arXiv 2501.11425), as its released code does it. There is no value model and no
separate rollout policy: a simulation begins at the root and alternates expansion (a few answers of
the policy, each acted out, equal ones dropped) and selection (UCT) until it comes to an end, so
that each simulation plays episodes to their ends. Unlike there, the candidates of a state are one
batch and the tasks are searched side by side.

A tree is a pure function of the answers and of its job's seed, so a search is resumed by
replaying the journal; nothing else is saved.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Literal

from pydantic import Field

from itercli.environments.base import EnvironmentFailed
from itercli.recipe.seeds import seed_for
from itercli.records import Call, Tree
from itercli.registry import register
from itercli.search.tree import SearchTree, State
from itercli.stages.acting import ActingStage, Scene, failed_to_begin, incidents, turn_of
from itercli.stages.base import StageContext, StageError
from itercli.stages.jobs import GaveUp, Reject, Steps


@dataclass
class _Search:
    """A task's search under way, and what the progress display says of it."""

    total: int
    tree: SearchTree = field(default_factory=SearchTree)
    done: int = 0
    begun: bool = False
    over: bool = False
    found: Counter[str] = field(default_factory=Counter)


@register("stage", "search")
class Search(ActingStage):
    """Searches a tree of actions for each task."""

    OUTPUT = "trees"

    uses: Literal["search"] = "search"
    algorithm: Literal["mcts"] = Field("mcts", description="How: Monte Carlo tree search with UCT.")
    temperature: float = Field(1.0, ge=0, description="Softmax temperature; 0 is greedy.")
    simulations: int = Field(8, ge=1, description="Simulations per task, fewer if the tree is used up.")
    candidates: int = Field(4, ge=1, description="Answers that are drawn to expand a state.")
    max_depth: int = Field(20, ge=1, description="A state deeper than this is an end.")
    c_uct: float = Field(0.25, ge=0, description="Weight of exploration in UCT.")
    stop_at_success: bool = Field(False, description="End a task's search with the first score of 1.")

    def check(self) -> list[tuple[str, str, str]]:
        problems = super().check()
        if self.temperature == 0 and self.candidates > 1:
            what = f"greedy decoding (temperature 0) gives {self.candidates} equal answers"
            problems.append(("candidates", what, "candidates: 1, or temperature > 0"))
        return problems

    def run(self, ctx: StageContext) -> None:
        scenes = self.scenes(ctx)
        searches = {scene.prompt.id: _Search(self.simulations) for scene in scenes}
        jobs = {
            scene.prompt.id: partial(self._job, ctx, scene, searches[scene.prompt.id]) for scene in scenes
        }
        made = self.run_jobs(
            ctx, jobs, "simulations", concurrent=self.concurrent, meter=partial(_meter, searches.values())
        )
        if not made.rows:
            raise StageError(f"{ctx.name}: no task could be searched: {made.counts}; see the run's events")
        trees = made.rows.values()
        counts: Counter[str] = Counter()
        for tree in trees:
            counts += Counter(tree.meta["counts"])
            counts["simulations"] += tree.simulations
            counts["nodes"] += len(tree.nodes)
            counts["closed roots"] += tree.nodes[0].closed
        ctx.finish_rows(Tree, iter(trees), **{**counts, **made.counts, **incidents(scenes)})

    def _job(self, ctx: StageContext, scene: Scene, search: _Search, reject: Reject) -> Steps[Tree]:
        task, tree = scene.prompt.id, search.tree
        search.begun = True
        try:
            opening = scene.opening
        except EnvironmentFailed as error:
            failed_to_begin(ctx, scene, error)
            search.over = True
            return GaveUp("environment failed")
        ties = random.Random(seed_for(ctx.seed, task, "ties"))
        tokens = 0
        while search.done < self.simulations and not self._ended(tree, tree.root):
            state = tree.root
            while not self._ended(tree, state):
                if state.children:
                    state = tree.select(state, self.c_uct, ties)
                else:
                    calls = yield scene.asks(state.turns, self.params(), self.candidates)
                    tokens += sum(call.tokens for call in calls)
                    self._expand(search, state, calls)
            search.done += 1
        search.over = True
        return Tree(
            prompt_id=task,
            seed=seed_for(ctx.seed, task),
            policy=ctx.models["policy"].version,
            opening=opening,
            nodes=tree.nodes(),
            simulations=search.done,
            tokens=tokens,
            meta={"environment": scene.spec.known_as, "best": tree.best, "counts": dict(+search.found)},
        )

    def _ended(self, tree: SearchTree, state: State) -> bool:
        """Whether a simulation has nothing to do after a state."""
        return state.closed or (self.stop_at_success and tree.best >= 1)

    def _expand(self, search: _Search, state: State, calls: list[Call]) -> None:
        """Give a state a child for each answer that is a new one."""
        seen: set[str] = set()
        for call in calls:
            turn = turn_of(call)
            if turn is None:
                continue
            if call.completion in seen:
                search.found["duplicates"] += 1
                continue
            seen.add(call.completion)
            search.found["environment failures"] += "error" in turn.info
            search.found["disasters"] += "disaster" in turn.info
            search.tree.expand(state, turn, terminal=turn.done or state.depth + 1 > self.max_depth)
        if state.children:
            search.tree.close(state)
        else:  # the prompt no longer fits the model: the episode ends here
            search.found["too long"] += 1
            search.tree.end(state)
            if state.parent is not None:
                search.tree.close(state.parent)


def _meter(searches: Iterable[_Search]) -> tuple[int, int, dict[str, float]]:
    """Simulations done, out of how many, and the mean best score of the tasks begun."""
    every = list(searches)
    done = sum(search.total if search.over else search.done for search in every)
    best = [search.tree.best for search in every if search.begun]
    return done, sum(search.total for search in every), {"best": fmean(best) if best else 0.0}

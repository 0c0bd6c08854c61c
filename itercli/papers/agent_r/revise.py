"""Stage `agent_r.revise`: dialogues of good paths, and of bad ones that find back to them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import Any, Literal

from pydantic import Field, field_validator

from itercli.papers.agent_r.pairs import Pair, Path, path_to, paths, reaches
from itercli.papers.agent_r.replay import verified
from itercli.papers.agent_r.splice import Draft, Revision, revise
from itercli.recipe.fields import Environment
from itercli.recipe.seeds import seed_for
from itercli.records import Dialogue, Tree, Turn
from itercli.registry import register
from itercli.stages.base import Link, Stage, StageContext, StageError

SPLICING = ("signal", "mask_bad", "drop_inside", "drop_ended")
# By `data`; what is not used is no part of the key.
UNUSED = {"agent_r": ("success",), "optimal_only": ("success", *SPLICING), "rft": ("good", *SPLICING)}


@register("stage", "agent_r.revise")
class Revise(Stage):
    """Makes the dialogues that the actor learns from, out of what `agent_r.judge` chose and judged.

    A revision is left out if another of its tree has the same bad steps and the same good path: two
    bad paths often go wrong before they part.
    """

    OUTPUT = "dialogues"
    SEEDED = True
    WITH_PROMPTS = True

    uses: Literal["agent_r.revise"] = "agent_r.revise"
    of: str = Field(description="The stage with the judged trees.")
    data: Literal["agent_r", "optimal_only", "rft"] = Field(
        "agent_r",
        description="agent_r: good and revised paths. optimal_only: the good ones alone. rft: all own paths "
        "that score `success`, pairs or not (rejection sampling).",
    )
    success: float = Field(1.0, gt=0, le=1, description="`data: rft`: a path that reaches it is learnt.")
    good: Literal["above_alpha", "paired"] = Field(
        "above_alpha",
        description="Good paths: all that score more than alpha, as in the released code; paired: those that "
        "are the better one of a pair.",
    )
    max_good: int | None = Field(None, ge=1, description="Good paths of a tree at most, the shortest.")
    mask_bad: bool = Field(
        True,
        description="Bad steps are not learnt, on good paths neither; false as in training with the released "
        "converter.",
    )
    drop_inside: bool = Field(
        False, description="Leave out pairs whose good path holds the step that was judged bad as well."
    )
    drop_ended: bool = Field(
        True,
        description="Leave out revisions whose bad steps ended the episode; the released code keeps them.",
    )
    signal: str = Field(
        "Thought: {thought}\nAction: {action}",
        description="How the policy writes the turn in which it notices: {thought}, {action}.",
    )
    verify_splice: Literal["none", "replay", "replace"] = Field(
        "none",
        description="replay: do the bad steps and the good rest, keep what ends above alpha. replace: and "
        "take over what the environment said this time.",
    )
    environment: tuple[Environment, ...] = Field((), description="`verify_splice`: where, one or a list.")

    @field_validator("environment", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return given if isinstance(given, list | tuple) else (given,)

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trees",), "of")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"]
        if self.verify_splice == "none":
            del params["environment"]
        for name in UNUSED[self.data]:
            del params[name]
        return params

    def fingerprint(self) -> dict[str, Any]:
        used = self.environment if self.verify_splice != "none" else ()
        return {spec.known_as: found for spec in used if (found := spec.fingerprint())}

    def check(self) -> list[tuple[str, ...]]:
        problems: list[tuple[str, ...]] = []
        if self.verify_splice != "none" and not self.environment:
            problems.append(("environment", "nowhere to replay", "an environment, or verify_splice: none"))
        if "{action}" not in self.signal:
            problems.append(("signal", "the turn has no {action}", "a text with {thought} and {action}"))
        return problems

    def run(self, ctx: StageContext) -> None:
        trees = [tree for a in ctx.inputs["of"] for tree in a.rows(Tree)]
        if any("pairs" not in tree.meta for tree in trees):
            raise StageError(
                f"{ctx.name}: trees of {self.of} have no pairs; name a stage agent_r.judge as `of:`"
            )
        counts: Counter[str] = Counter(trees=len(trees))
        drafts = list(self._drafts(ctx, trees, counts))
        if self.verify_splice == "none":
            rows = [draft.dialogue() for draft in drafts]
        else:
            over = self.verify_splice == "replace"
            rows = list(verified(ctx, drafts, self.environment, counts, take_over=over))
        metrics = _metrics(rows)
        if replayed := counts["replayed"]:
            metrics = {"replay_pass_rate": 1 - counts["dropped_replay"] / replayed} | metrics
        ctx.finish_metrics(metrics)
        names = sorted({row.meta["environment"] for row in rows})
        each = {name: _metrics([row for row in rows if row.meta["environment"] == name]) for name in names}
        ctx.finish_file("environments.json", each)
        counts.update(Counter(row.origin for row in rows))
        ctx.finish_rows(Dialogue, iter(rows), **counts)

    def _drafts(self, ctx: StageContext, trees: Iterable[Tree], counts: Counter[str]) -> Iterator[Draft]:
        """All dialogues, as yet unchecked."""
        following: Counter[str] = Counter()
        for tree in trees:
            rng = random.Random(seed_for(ctx.seed, *tree.key))
            made: list[tuple[str, tuple[Turn, ...], dict[str, Any]]] = [
                ("own" if self.data == "rft" else "good", path.turns, {"leaf": path.leaf})
                for path in self._good(tree, rng, counts)
            ]
            if self.data == "agent_r":
                made += [
                    ("revision", found.turns, {"good": pair.good.leaf, "bad": pair.bad.leaf} | found.facts)
                    for pair, found in self._revisions(tree, rng, counts)
                ]
            for origin, turns, facts in made:
                if self.data == "agent_r" and self.mask_bad:
                    turns = tuple(map(_unlearnt_if_bad, turns))
                yield Draft(tree, following[tree.prompt_id], origin, turns, facts)
                following[tree.prompt_id] += 1

    def _good(self, tree: Tree, rng: random.Random, counts: Counter[str]) -> list[Path]:
        if self.data == "rft":
            found = [path for path in paths(tree) if path.score >= self.success - 1e-9]
        elif self.good == "above_alpha":
            found = [path for path in paths(tree) if reaches(path.score, tree.meta["alpha"])]
        else:
            found = [path_to(tree, leaf) for leaf in sorted({good for good, _ in tree.meta["pairs"]})]
        if self.max_good is not None and len(found) > self.max_good:
            counts["dropped_good_over_cap"] += len(found) - self.max_good
            rng.shuffle(found)
            found.sort(key=lambda path: len(path.nodes))  # stable: of equal ones random ones
            found = sorted(found[: self.max_good], key=lambda path: path.leaf)
        return found

    def _revisions(
        self, tree: Tree, rng: random.Random, counts: Counter[str]
    ) -> Iterator[tuple[Pair, Revision]]:
        seen: set[tuple[int, int]] = set()
        for good, bad in tree.meta["pairs"]:
            pair = Pair(path_to(tree, good), path_to(tree, bad))
            found = revise(pair, rng, mask_bad=self.mask_bad, signal=self.signal)
            if found is None:
                counts["dropped_no_bad_step"] += 1
                continue
            same = (pair.bad.nodes[found.bad_steps - 1], good)
            if self.drop_inside and found.inside and found.detected:
                counts["dropped_inside"] += 1
            elif self.drop_ended and found.ended:
                counts["dropped_ended"] += 1
            elif same in seen:
                counts["dropped_duplicate"] += 1
            else:
                seen.add(same)
                yield pair, found


def _unlearnt_if_bad(turn: Turn) -> Turn:
    """A good path may hold a step that was judged bad on another."""
    return turn.model_copy(update={"loss": False}) if turn.info.get("judgement", {}).get("bad") else turn


def _metrics(rows: list[Dialogue]) -> dict[str, Any]:
    """Numbers of dialogues and what the revisions among them look like; lengths in steps."""
    found = [row.meta for row in rows if row.origin == "revision"]
    replayed = found and all("replay" in m for m in found)
    return {
        "good": len(rows) - len(found),
        "revisions": len(found),
        "revision_length": fmean(m["length"] for m in found) if found else None,
        "bad_steps": fmean(m["bad_steps"] for m in found) if found else None,
        "detected": fmean(m["detected"] for m in found) if found else None,
        "inside_shared": fmean(m["inside"] for m in found) if found else None,
        **({"replay_differs": fmean(m["replay"]["differ"] for m in found)} if replayed else {}),
    }

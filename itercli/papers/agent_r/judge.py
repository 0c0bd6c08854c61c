"""Stage `agent_r.judge`: pairs of paths, and at which step the bad ones go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from itercli.papers.agent_r.hindsight import Hindsight
from itercli.papers.agent_r.pairs import Pair, PairRule
from itercli.papers.agent_r.splice import spliced
from itercli.papers.agent_r.verdicts import SLOTS, WORDING, WORDS, Word, question, read
from itercli.records import Call, Tree
from itercli.registry import register
from itercli.stages.base import Link, ModelLink, StageContext
from itercli.stages.drawing import PARAMS
from itercli.stages.jobs import Ask, JobStage, Reject, Steps


@register("stage", "agent_r.judge")
class Judge(PairRule, JobStage):
    """Chooses pairs and judges the steps of their bad paths, from the first until one is bad.

    Gives the trees again: `meta["pairs"]` holds [good leaf, bad leaf] of each pair, `meta["alpha"]`
    what good means, and the `info["judgement"]` of a step that was judged its verdict, the reasons,
    and whether the bad path ends here. A verdict depends on the path up to the step alone, so
    a step that several bad paths share is judged once.
    """

    OUTPUT = "trees"

    uses: Literal["agent_r.judge"] = "agent_r.judge"
    of: str = Field(description="The stage with the search trees.")
    judge: Literal["actor", "none", "tree"] = Field(
        "actor",
        description="actor: `role` judges. none: bad paths stay whole (direct revision). tree: no model; "
        "bad is the first step that brings the nearest good end that the search found no nearer.",
    )
    role: str | None = Field(None, description="Who judges: the actor itself in the paper.")
    unreadable: Literal["bad", "uncertain"] = Field(
        "bad", description="What an answer without a verdict counts as; the released code takes it as bad."
    )
    wording: str = Field(WORDING, description="Question, with {task}, {log}, {action} and {observation}.")
    temperature: float = Field(0.0, ge=0, description="Softmax temperature; 0 is greedy.")
    max_new_tokens: int = Field(512, ge=1, description="Token budget of an answer.")

    @field_validator("wording")
    @classmethod
    def _shows_the_action(cls, wording: str) -> str:
        if "{action}" not in wording:
            raise ValueError(f"the question has to show the {{action}}; its slots are {', '.join(SLOTS)}")
        return wording

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trees",), "of")]

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("policy", self.role, "current")] if self.judge == "actor" and self.role else []

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        unused = () if self.judge == "actor" else ("sampler", "wording", "unreadable", *PARAMS)
        for field in ("of", "role", *unused):
            del params[field]
        return params

    def check(self) -> list[tuple[str, ...]]:
        problems: list[tuple[str, ...]] = []
        if self.of.startswith("all."):
            problems.append(("of", "trees of several iterations have the same keys", "one stage"))
        if self.judge == "actor" and self.role is None:
            problems.append(("role", "nobody judges", "a role, or judge: none or tree"))
        return problems

    def run(self, ctx: StageContext) -> None:
        trees = {f"{t.prompt_id}#{t.index}": t for a in ctx.inputs["of"] for t in a.rows(Tree)}
        alpha = self.alpha
        counts: Counter[str] = Counter(trees=len(trees))
        rows: dict[str, Tree] = {}
        chosen: dict[str, list[Pair]] = {}
        for name, tree in trees.items():
            search = Hindsight(tree, alpha) if self.judge == "tree" else None
            if self.judge == "actor":  # what splices are the same is known once all bad paths are judged
                chosen[name], found = self.model_copy(update={"max_pairs": None}).pairs(tree, alpha, ctx.seed)
            else:
                same = search.splice if search else spliced
                chosen[name], found = self.pairs(tree, alpha, ctx.seed, same)
            known = (
                {n: said for pair in chosen[name] for n, said in search.verdicts(pair.bad)} if search else {}
            )
            if self.judge != "actor":
                counts += found
            rows[name] = _judged(tree, chosen[name], alpha, known)
        if self.judge == "actor":
            jobs = {
                name: lambda reject, name=name: self._job(trees[name], chosen[name], alpha, reject)
                for name in trees
                if chosen[name]
            }
            made = self.run_jobs(ctx, jobs, "trees")
            for name in rows:
                tree = made.rows.get(name, rows[name])
                chosen[name], found = self.pairs(tree, alpha, ctx.seed, spliced)
                counts += found
                rows[name] = _judged(tree, chosen[name], alpha, {})
            rows = {name: tree for name, tree in rows.items() if name not in jobs or name in made.rows}
            counts.update(made.counts)
        counts["trees_without_pairs"] = sum(not pairs for pairs in chosen.values())
        mix = verdicts(rows.values())
        counts.update({f"verdict_{word}": mix[word] for word in WORDS})
        total = mix.total()
        ctx.finish_metrics(
            {"alpha": alpha, "pairs": counts["pairs"], "trees_with_pairs": sum(map(bool, chosen.values()))}
            | ({f"verdict_{word}": mix[word] / total for word in WORDS} if total else {})
        )
        ctx.finish_rows(Tree, iter(rows.values()), **counts)

    def _job(self, tree: Tree, pairs: list[Pair], alpha: float, reject: Reject) -> Steps[Tree]:
        """Judge the next step of all bad paths at once, until each has gone wrong or is over."""
        open_paths = {pair.bad.leaf: pair.bad for pair in pairs}
        known: dict[int, dict[str, Any]] = {}
        depth = 0
        while open_paths:
            steps = {path.nodes[depth]: path.turns[: depth + 1] for path in open_paths.values()}
            calls: list[Call] = yield tuple(
                Ask("judge", question(self.wording, tree, turns), self.params()) for turns in steps.values()
            )
            for node, call in zip(steps, calls, strict=True):
                known[node] = self._verdict(call, reject)
            depth += 1
            open_paths = {
                leaf: path
                for leaf, path in open_paths.items()
                if depth < len(path.nodes) and not known[path.nodes[depth - 1]]["bad"]
            }
        return _judged(tree, pairs, alpha, known)

    def _verdict(self, call: Call, reject: Reject) -> dict[str, Any]:
        word, reason = read(call.completion)
        if word == "unreadable":
            reject("no answer" if call.finish == "error" else "no verdict")
        counts_as = self.unreadable if word == "unreadable" else word
        if call.finish == "error":  # no answer (a path beyond the context, say) is no verdict at all
            counts_as = "uncertain"
        return {"verdict": word, "reason": reason, "bad": counts_as == "bad"}


def _judged(tree: Tree, pairs: Iterable[Pair], alpha: float, known: Mapping[int, dict[str, Any]]) -> Tree:
    """The tree with its pairs and verdicts."""
    nodes = [
        node.model_copy(
            update={
                "turn": node.turn.model_copy(update={"info": node.turn.info | {"judgement": known[node.id]}})
            }
        )
        if node.turn and node.id in known
        else node
        for node in tree.nodes
    ]
    named = [[pair.good.leaf, pair.bad.leaf] for pair in pairs]
    return tree.model_copy(update={"nodes": nodes, "meta": tree.meta | {"alpha": alpha, "pairs": named}})


def verdicts(trees: Iterable[Tree]) -> Counter[Word]:
    """Verdicts of all steps that were judged."""
    infos = (node.turn.info for tree in trees for node in tree.nodes if node.turn)
    return Counter(info["judgement"]["verdict"] for info in infos if "judgement" in info)

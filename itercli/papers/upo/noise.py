"""How noisy pairs are where the truth is known: all of them, and those that each selection keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.papers.upo.truth import Truth, known
from itercli.preference.selection import BY_REWARD, Mixing, Pool, Selection, select, widest
from itercli.preference.uncertainty import mean_probability
from itercli.recipe.fields import Scorer
from itercli.recipe.seeds import seed_for
from itercli.records import PreferencePair, Prompt
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.clusters import Clustered
from itercli.training.base import Interrupted

MANY = 200  # pairs from which on BALD is looked at by tenths, else by fifths
Interval = dict[str, float]


@register("stage", "upo.noise")
class Noise(Mixing, Clustered):
    """A pair is noisy if the truth prefers its rejected answer; pairs that it calls equal are left out.

    Means are over prompts, as are intervals (95 %, bootstrap). What is drawn at random is
    drawn `draws` times; mean and interval are the draws' average. The options of the
    selection are those of `upo.choose`, and so is the number of pairs that each would keep.
    """

    OUTPUT = "metrics"
    SEEDED = True
    WITH_PROMPTS = True
    VERSION: ClassVar[int] = 2  # 2: BCa intervals, over clusters

    uses: Literal["upo.noise"] = "upo.noise"
    of: str = Field(description="The stage with the pairs; with probabilities also the estimator is judged.")
    scorer: Scorer | None = Field(
        None,
        description="The true reward. Without one, each pair's `meta` must tell: `truth` (true rewards of "
        "chosen and rejected) or `flipped`.",
    )
    draws: int = Field(20, ge=1, description="How often each selection is drawn.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("pairs",), "of")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"]
        return params

    def fingerprint(self) -> dict[str, Any]:
        return self.scorer.fingerprint() if self.scorer else {}

    def run(self, ctx: StageContext) -> None:
        rows = (pair for a in ctx.inputs["of"] for pair in a.rows(PreferencePair))
        pairs = [pair for pair in rows if pair.kept]
        prompts = {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}
        truth = known(ctx, pairs, prompts, self.scorer)
        judged = [i for i, t in enumerate(truth) if t]
        if not judged:
            raise StageError(f"{ctx.name}: the truth prefers neither answer in any pair of {self.of}")
        study = Study(pairs, truth, ctx.seed, self.clusters_of(ctx.name, prompts.values()))
        metrics: dict[str, Any] = {"pairs": len(pairs), "truth_ties": truth.count(0)}
        metrics["noise_all"] = study.noise(judged)
        metrics |= study.estimator(judged)
        selections = {name: self._drawn(ctx, study, name) for name in self._selections(pairs)}
        metrics |= {f"noise_{name}": found["noise"] for name, found in selections.items() if found}
        ctx.finish_file("noise.json", {"bald": study.bins(judged), "selections": selections})
        ctx.finish_metrics(metrics)

    def _selections(self, pairs: Sequence[PreferencePair]) -> list[Selection]:
        """Those that what is known of the pairs is enough for."""
        found: list[Selection] = ["random"]
        if all(pair.rewards is not None for pair in pairs):
            found += BY_REWARD
        return ["uncertainty", *found] if all(map(estimated, pairs)) else found

    def _drawn(self, ctx: StageContext, study: Study, selection: Selection) -> dict[str, Any]:
        """Noise of what a selection keeps, in all and by kind of draw; empty if it keeps nothing."""
        pairs = study.pairs
        own = range(len(pairs))
        pool = Pool(pairs, own, widest(pairs, (i for i in own if pairs[i].rewards is not None)))
        kept: list[int] = []
        kinds: dict[str, list[Interval]] = {}
        for draw in range(self.draws):
            if ctx.stopping():
                raise Interrupted
            verdicts = select(pool, selection, self, seed_for(ctx.seed, "draw", draw))
            kept.append(sum(v.kept for v in verdicts))
            taken: dict[str, list[int]] = {}
            for i, verdict in enumerate(verdicts):
                if verdict.kept and study.truth[i]:
                    taken.setdefault("all", []).append(i)
                    taken.setdefault(verdict.reason, []).append(i)
            for kind, of in taken.items():
                kinds.setdefault(kind, []).append(study.noise(of))
        noise = {kind: _average(each) for kind, each in sorted(kinds.items())}
        return {"kept": fmean(kept), "noise": noise.pop("all"), "kinds": noise} if noise else {}


def estimated(pair: PreferencePair) -> bool:
    """Whether an estimator saw the pair."""
    return bool(pair.probabilities) and pair.bald is not None and pair.vote is not None


class Study:
    """Pairs with what is true of them.

    Attributes:
        truth: True reward of the chosen answer less that of the rejected; None is unknown.
        clusters: Prompt id -> cluster, which intervals resample.
    """

    def __init__(
        self,
        pairs: Sequence[PreferencePair],
        truth: Sequence[Truth],
        seed: int,
        clusters: Mapping[str, str] | None = None,
    ) -> None:
        self.pairs, self.truth, self.seed, self.clusters = pairs, truth, seed, clusters or {}

    def noise(self, among: Iterable[int]) -> Interval:
        """Share of pairs whose order contradicts the truth."""
        return self.mean((self.pairs[i].prompt_id, float((self.truth[i] or 0) < 0)) for i in among)

    def accuracy(self, among: Iterable[int]) -> Interval:
        """Share of pairs in which the estimator prefers what the truth does; undecided counts half."""

        def right(i: int) -> float:
            says = mean_probability(self.pairs[i].probabilities) - 0.5
            return 0.5 if says == 0 else float((says > 0) == ((self.truth[i] or 0) > 0))

        return self.mean((self.pairs[i].prompt_id, right(i)) for i in among)

    def estimator(self, judged: Sequence[int]) -> dict[str, Interval]:
        """How right the estimator is, and what following its vote leaves; empty without one."""
        seen = [i for i in judged if estimated(self.pairs[i])]
        metrics = {}
        if seen:
            metrics["estimator_accuracy"] = self.accuracy(seen)
            bins = self.bins(judged)
            if bins:
                metrics |= {"accuracy_sure": bins[0]["accuracy"], "accuracy_unsure": bins[-1]["accuracy"]}
            agreed = [i for i in seen if (self.pairs[i].vote or 0.0) >= 0.5]
            if agreed:
                metrics["noise_agreed"] = self.noise(agreed)
        swaps = [(p.prompt_id, s) for p in self.pairs if (s := p.meta.get("swap_consistent")) is not None]
        if swaps:
            metrics["swap_consistency"] = self.mean((prompt, float(same)) for prompt, same in swaps)
        return metrics

    def bins(self, judged: Sequence[int]) -> list[dict[str, Any]]:
        """Tenths (fifths of few pairs) by BALD, the surest first; empty where there are not even five."""
        among = [i for i in judged if estimated(self.pairs[i])]
        number = 10 if len(among) >= MANY else 5
        if len(among) < number:
            return []
        order = sorted(among, key=lambda i: (self.pairs[i].bald or 0.0, i))
        cuts = [round(n * len(order) / number) for n in range(number + 1)]
        parts = [order[low:high] for low, high in pairwise(cuts)]
        return [
            {
                "pairs": len(part),
                "bald": [self.pairs[part[0]].bald, self.pairs[part[-1]].bald],
                "accuracy": self.accuracy(part),
                "noise": self.noise(part),
            }
            for part in parts
        ]

    def mean(self, values: Iterable[tuple[str, float]]) -> Interval:
        """Mean over prompts of the prompts' means, with its bootstrap interval."""
        from itercli.verifiers.intervals import bootstrap_mean, in_clusters

        prompts: dict[str, list[float]] = {}
        for prompt, value in values:
            prompts.setdefault(prompt, []).append(value)
        clusters = in_clusters(prompts, self.clusters)
        means = (fmean(v) for v in prompts.values())
        value, low, high = bootstrap_mean(means, clusters=clusters, seed=self.seed % 2**32)
        found = {"value": value, "low": low, "high": high, "prompts": len(prompts)}
        return found | ({"clusters": len(set(clusters))} if self.clusters else {})


def _average(intervals: Sequence[Mapping[str, float]]) -> Interval:
    found = {name: fmean(i[name] for i in intervals) for name in intervals[0]}
    return found | {name: round(found[name]) for name in ("prompts", "clusters") if name in found}

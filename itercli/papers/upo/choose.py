"""Which pairs the policy learns from, and how far each label is trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field

from itercli.preference.selection import BY_REWARD, Mixing, Pool, Selection, Verdict, select, widest
from itercli.preference.uncertainty import MIN_RECIP_MU, PAPER_REVERSES, AlphaMode, alphas
from itercli.records import PreferencePair
from itercli.registry import register
from itercli.stages.base import Artifact, Link, Stage, StageContext, StageError


@register("stage", "upo.choose")
class Choose(Mixing, Stage):
    """Marks every candidate pair as kept or dropped, with the reason, and gives it its alpha.

    The selections beside ``uncertainty`` do without the estimator altogether: no vote, no
    alpha. Defaults are those of the released code, but for alpha, which it has none of.
    """

    OUTPUT = "pairs"
    SEEDED = True

    uses: Literal["upo.choose"] = "upo.choose"
    of: str = Field(description="The stage with the pairs, estimated for `selection: uncertainty`.")
    labelled: str | None = Field(None, description="A stage with labelled pairs that are replayed.")
    margin: str | None = Field(
        None,
        description="A stage with the best against the worst answers (`rule: best_worst`); else the pair "
        "with the largest margin of each prompt in `of`.",
    )
    selection: Selection = Field("uncertainty", description="How pairs are chosen.")
    alpha: AlphaMode = Field("bounded", description="From BALD to the probability that a label is wrong.")
    alpha_max: float = Field(0.3, ge=0, lt=0.5, description="`alpha: bounded`: at a BALD of ln 2.")
    alpha_mu: float = Field(
        10.0, gt=MIN_RECIP_MU, description="`alpha: recip`: mu in 1 / (1 + mu (1 - BALD))."
    )

    def links(self, name: str) -> list[Link]:
        found = [Link("of", self.of, ("pairs",), "of")]
        for slot, ref in (("labelled", self.labelled), ("margin", self.margin)):
            if ref is not None:
                found.append(Link(slot, ref, ("pairs",), slot))
        return found

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        for field in ("of", "labelled", "margin"):
            del params[field]
        return params

    def check(self) -> list[tuple[str, str, str]]:
        refs = {"of": self.of, "labelled": self.labelled, "margin": self.margin}
        return [
            (key, "rows of several iterations have the same keys", "one stage that makes pairs")
            for key, ref in refs.items()
            if ref is not None and ref.startswith("all.")
        ]

    def notes(self) -> list[str]:
        return [PAPER_REVERSES] if self.alpha == "paper" and self.selection == "uncertainty" else []

    def run(self, ctx: StageContext) -> None:
        pool = _pool(ctx.inputs)
        self._refuse(ctx.name, pool)
        for note in self.notes():
            ctx.event("warning", text=note)
        verdicts = select(pool, self.selection, self, ctx.seed)
        trust = self._alphas(pool)
        own = {*pool.own, *pool.margins, *pool.labelled}
        rows = [
            _marked(pair, verdicts[i], trust.get(i, pair.alpha)) if i in own else pair
            for i, pair in enumerate(pool.pairs)
        ]
        counts = Counter(f"{'kept' if row.kept else 'dropped'}: {row.reason}" for row in rows)
        ctx.finish_rows(PreferencePair, iter(rows), **dict(sorted(counts.items())))

    def _refuse(self, where: str, pool: Pool) -> None:
        own = [pool.pairs[i] for i in pool.own]
        if self.selection == "uncertainty" and any(p.bald is None or p.vote is None for p in own):
            raise StageError(
                f"{where}: pairs of {self.of} have no probabilities of an estimator. Name the stage that "
                f"estimates them as `of:`, or set selection=random (or margin, cb_rr, none)"
            )
        ordered = self.selection in BY_REWARD or (self.selection == "uncertainty" and self.margin_share > 0)
        if ordered and any(pool.pairs[i].rewards is None for i in (*pool.own, *pool.margins)):
            fix = "margin_share=0" if self.selection == "uncertainty" else "selection=random"
            raise StageError(
                f"{where}: pairs of {self.of} have no rewards to take margins from; set {fix}, or make "
                f"them from scores"
            )

    def _alphas(self, pool: Pool) -> dict[int, float]:
        """Position -> alpha of the pairs that the estimator saw."""
        if self.selection != "uncertainty":
            return {}
        seen = {i: b for i, pair in enumerate(pool.pairs) if (b := pair.bald) is not None}
        found = alphas(list(seen.values()), self.alpha, alpha_max=self.alpha_max, mu=self.alpha_mu)
        return dict(zip(seen, found, strict=True))


def _pool(inputs: dict[str, list[Artifact]]) -> Pool:
    """All candidate pairs, each once, with keys of their own; what was dropped before stays dropped."""
    pairs = _rows(inputs["of"])
    own = [i for i, pair in enumerate(pairs) if pair.kept]
    known = {_texts(pairs[i]): i for i in own}
    following = Counter[str]()
    for pair in pairs:
        following[pair.prompt_id] = max(following[pair.prompt_id], pair.index + 1)

    def add(pair: PreferencePair) -> int:
        pairs.append(pair.model_copy(update={"index": following[pair.prompt_id]}))
        following[pair.prompt_id] += 1
        return len(pairs) - 1

    margins = [known[t] if (t := _texts(p)) in known else add(p) for p in _kept(inputs.get("margin", []))]
    labelled = [add(pair) for pair in _kept(inputs.get("labelled", []))]
    rewarded = [i for i in own if pairs[i].rewards is not None]
    return Pool(pairs, own, margins if "margin" in inputs else widest(pairs, rewarded), labelled)


def _marked(pair: PreferencePair, verdict: Verdict, alpha: float) -> PreferencePair:
    """The pair with what became of it; `meta.rule` keeps the rule where `origin` says how it was drawn."""
    return pair.model_copy(
        update={
            "kept": verdict.kept,
            "reason": verdict.reason,
            "origin": verdict.reason if verdict.kept else pair.origin,
            "alpha": alpha,
            "meta": pair.meta | {"rule": pair.origin},
        }
    )


def _rows(artifacts: Iterable[Artifact]) -> list[PreferencePair]:
    return [pair for artifact in artifacts for pair in artifact.rows(PreferencePair)]


def _kept(artifacts: Iterable[Artifact]) -> Sequence[PreferencePair]:
    return [pair for pair in _rows(artifacts) if pair.kept]


def _texts(pair: PreferencePair) -> tuple[str, str, str]:
    return pair.prompt_id, pair.chosen, pair.rejected

"""Stage `estimate`: how sure a model is of each preference, by Monte Carlo dropout.

Each pair is run `passes` times with dropout. Where the passes disagree, the label is doubtful:
`bald` is the mutual information of label and mask in nats, `vote` the share of passes that side
with the label. Source: UPO (AAAI-25), section on uncertainty estimation; Houlsby et al. 2011
(arXiv 1112.5745) for the measure, Gal and Ghahramani 2016 (arXiv 1506.02142) for the passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from itercli.preference.uncertainty import bald, vote
from itercli.recipe.seeds import seed_for
from itercli.records import PreferencePair
from itercli.registry import register
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.classify import ClassifyStage, Key, batches
from itercli.training.base import Interrupted

if TYPE_CHECKING:
    from itercli.training.classifier_inputs import Encoded
    from itercli.training.mc_dropout import Rows


@register("stage", "estimate")
class Estimate(ClassifyStage):
    """The same pairs with `probabilities` [passes, 2], `bald` and `vote`.

    Both orders without dropout are kept beside them: `meta.p_first` holds the probability that the
    first is better with the chosen answer first and with the rejected one first,
    `meta.swap_consistent` whether both say the same.
    Pairs that were dropped before (`kept` false) pass through as they are.
    """

    OUTPUT = "pairs"
    SEEDED = True
    VERSION: ClassVar[int] = 2

    uses: Literal["estimate"] = "estimate"
    of: str = Field(description="A stage with preference pairs.")
    passes: int = Field(10, ge=2, description="Forward passes with dropout for each pair.")
    reads: Literal["together", "apart"] = Field(
        "together",
        description="together: both answers in one text, by a pair classifier (method estimator), as in UPO. "
        "apart: each by itself, by a reward model r (method reward); a pass says σ(r_1 - r_2). For models "
        "too small to compare two texts.",
    )
    order: Literal["chosen_first", "alternate"] = Field(
        "chosen_first",
        description="In the passes the chosen answer stands first, as in UPO's code, or first and second in "
        "turns, so that an estimator's liking for one place makes doubt instead of votes.",
    )

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("pairs",), "of")]

    def labels(self) -> int:
        return 2 if self.reads == "together" else 1

    def check(self) -> list[tuple[str, ...]]:
        problems = super().check()
        if self.reads == "apart" and self.order == "alternate":
            problems.append(("order", "answers that are read apart have no order", "chosen_first"))
        return problems

    def run(self, ctx: StageContext) -> None:
        pairs = [p for a in ctx.inputs["of"] for p in a.rows(PreferencePair)]
        if len({p.key for p in pairs}) < len(pairs):
            raise StageError(f"{ctx.name}: {self.of} holds several pairs of one prompt and index")
        asked = {p.key: p for p in pairs if p.kept}
        journal = ctx.journal(PreferencePair, total=len(asked))
        if len(journal.done) < len(asked):
            self._estimate(ctx, asked, journal)
        judged = {row.key: row for row in journal.rows() if isinstance(row, PreferencePair)}
        rows = [judged.get(p.key, p) for p in pairs]
        ctx.finish_rows(
            PreferencePair, iter(rows), truncated=sum(r.meta["truncated"] > 0 for r in judged.values())
        )
        ctx.finish_metrics(_summary([judged[key] for key in asked]))

    def _estimate(self, ctx: StageContext, pairs: dict[Key, PreferencePair], journal: Any) -> None:
        from itercli.training.classifier_inputs import input_limit
        from itercli.training.estimator import both_orders, each_alone
        from itercli.training.mc_dropout import install
        from itercli.training.models import load_tokenizer

        ref = ctx.models["model"]
        tokenizer = load_tokenizer(ref)
        limit = input_limit(ref, tokenizer, self.max_length)
        encode = both_orders if self.reads == "together" else each_alone
        inputs: dict[Key, tuple[Encoded, Encoded]] = {}
        for key, pair in pairs.items():
            if ctx.stopping():
                raise Interrupted
            inputs[key] = encode(tokenizer, pair, limit)
        model = self.load(ctx, len(journal.done), len(pairs), "pairs")
        rows = install(model)
        # A pair's passes run side by side, so they count as its length.
        costs = {key: self.passes * len(self._asked(both, False)[0]) for key, both in inputs.items()}
        for batch in batches(costs, self.batch_tokens):
            if not journal.done.issuperset(batch):
                for pair in self._batch(ctx, model, rows, [(pairs[key], inputs[key]) for key in batch]):
                    if pair.key not in journal.done:
                        journal.append(pair)
                ctx.progress(len(journal.done), len(pairs), "pairs")

    def _batch(
        self,
        ctx: StageContext,
        model: Any,
        rows: Rows,
        batch: list[tuple[PreferencePair, tuple[Encoded, Encoded]]],
    ) -> Iterator[PreferencePair]:
        """Run all passes of some pairs of similar length, and once without dropout."""
        import torch

        from itercli.training.classifier import classify
        from itercli.training.mc_dropout import stochastic

        second = [self.order == "alternate" and n % 2 == 1 for n in range(self.passes)]
        ids, seeds = [], []
        for pair, both in batch:
            for n, turned in enumerate(second):
                asked = self._asked(both, turned)
                ids += asked
                seeds += [seed_for(ctx.seed, pair.prompt_id, pair.index, n)] * len(asked)
        size = max(1, self.batch_tokens // max(map(len, ids)))  # a pair may not fit into one pass
        parts = []
        for start in range(0, len(ids), size):
            if ctx.stopping():
                raise Interrupted
            part = slice(start, start + size)
            parts.append(stochastic(model, rows, ids[part], seeds[part]))
        if not rows.drawn:
            raise StageError(
                f"{ctx.name}: no dropout is active in {ctx.models['model'].version}, so all passes are the "
                "same and every BALD is 0; train it with training.lora.dropout above 0, for example 0.1"
            )
        # Two numbers a pass: of the two places, or of the two answers.
        passes = torch.cat(parts).view(len(batch), self.passes, 2).softmax(dim=2).tolist()
        plain = [classify(model, [both[n].ids for _, both in batch]) for n in (0, 1)]
        if self.reads == "together":
            first = torch.stack([logits.softmax(dim=1)[:, 0] for logits in plain], dim=1).tolist()
        else:
            chosen = torch.cat(plain, dim=1).softmax(dim=1)
            first = chosen.tolist()  # with the rejected one first, it is the other's probability
        for (pair, both), of, p_first in zip(batch, passes, first, strict=True):
            probabilities = [
                (p[1], p[0]) if turned else (p[0], p[1]) for p, turned in zip(of, second, strict=True)
            ]
            meta = {
                "estimator": ctx.models["model"].version,
                "truncated": max(one.cut for one in both),
                "p_first": p_first,
                "swap_consistent": (p_first[0] > 0.5) == (p_first[1] < 0.5),
            }
            yield pair.model_copy(
                update={
                    "probabilities": probabilities,
                    "bald": bald(probabilities),
                    "vote": vote(probabilities),
                    "meta": pair.meta | meta,
                }
            )

    def _asked(self, both: tuple[Encoded, Encoded], turned: bool) -> list[list[int]]:
        """Token ids of one pass over a pair."""
        return [both[turned].ids] if self.reads == "together" else [one.ids for one in both]


def _summary(pairs: list[PreferencePair]) -> dict[str, float]:
    """Means over the pairs that were asked about; none if there are none."""
    if not pairs:
        return {}
    return {
        "bald": fmean(p.bald or 0.0 for p in pairs),
        "agree": fmean((p.vote or 0.0) > 0.5 for p in pairs),
        "swap_consistent": fmean(p.meta["swap_consistent"] for p in pairs),
    }

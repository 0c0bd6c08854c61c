"""Stage `likelihood`: how a model finds completions, token by token, beside how they repeat.

A text that drifts off its subject becomes unlikely under a model that did not write it
(LongWriter, Bai et al. 2024, arXiv 2408.07055, plots this curve). A text that repeats
itself becomes *likely*: a low NLL is good news only while repetition is low, too, so the two are
always reported together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from itercli.records import Record, Trajectory
from itercli.registry import register
from itercli.stages.base import ModelLink, StageContext, Which
from itercli.stages.forward import ForwardStage
from itercli.verifiers.text_quality import rep_n
from itercli.verifiers.words import tokens


class Likelihood(Record):
    """One completion under the model.

    Attributes:
        tokens: Tokens of the completion; its end-of-turn token is not counted.
        nll: Mean negative log-likelihood per token, in nats.
        rep_4, rep_10: Repeated share of word n-grams, see `text_quality.rep_n`.
        curve: Position p -> the same three of the first p tokens, up to its length.
    """

    prompt_id: str
    index: int
    policy: str
    tokens: int
    nll: float
    rep_4: float
    rep_10: float
    curve: dict[int, dict[str, float]]


@register("stage", "likelihood")
class LikelihoodStage(ForwardStage):
    """Mean NLL of completions under a role's model, with intervals over prompts.

    A prompt's value is the mean over its completions, a completion's the mean over its tokens.
    Token ids are those of training; what does not fit into the model's context is left out and counted.
    """

    VERSION: ClassVar[int] = 2

    uses: Literal["likelihood"] = "likelihood"
    which: Which = Field("initial", description="Its start model, or its current version.")
    positions: tuple[int, ...] = Field(
        (64, 128, 256, 512, 1024, 2048, 4096, 8192),
        description="Lengths in tokens at which the curve is read.",
    )
    metrics: tuple[Literal["nll"], Literal["rep_4"], Literal["rep_10"]] = Field(
        ("nll", "rep_4", "rep_10"), description="Always these: a loop has a low NLL, too."
    )

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("model", self.role, self.which)]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["which"]
        return params

    def run(self, ctx: StageContext) -> None:
        model = ctx.models["model"]
        rows = self.forward(ctx, Likelihood, model, [model], self._row)
        ctx.finish_file("curve.json", {"positions": self._curve(rows)})
        self.report(ctx, rows)

    def _row(
        self, drawn: Trajectory, tokenizer: Any, ids: list[int], losses: list[list[float]]
    ) -> Likelihood:
        nll = losses[0]

        def read(n: int) -> dict[str, float]:
            text = drawn.completion if n == len(ids) else tokenizer.decode(ids[:n], skip_special_tokens=True)
            return {"nll": sum(nll[:n]) / n, **_repetition(text)}

        return Likelihood(
            prompt_id=drawn.prompt_id,
            index=drawn.index,
            policy=drawn.policy,
            tokens=len(ids),
            curve={p: read(p) for p in sorted(self.positions) if p <= len(ids)},
            **read(len(ids)),
        )

    def _curve(self, rows: Sequence[Likelihood]) -> list[dict[str, float]]:
        """Means over the completions that reach a position; `completions` says how many do."""
        points = []
        for position in sorted(self.positions):
            reached = [r.curve[position] for r in rows if position in r.curve]
            if reached:
                means: dict[str, float] = {n: _average(r[n] for r in reached) for n in self.metrics}
                points.append({"position": position, "completions": len(reached), **means})
        return points


def _repetition(text: str) -> dict[str, float]:
    words = tokens(text)
    return {f"rep_{n}": rep_n(words, n) for n in (4, 10)}


def _average(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)

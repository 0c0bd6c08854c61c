"""Stage `likelihood`: how a model finds completions, token by token, beside how they repeat.

A text that drifts off its subject becomes unlikely under a model that did not write it
(LongWriter, Bai et al. 2024, arXiv 2408.07055, plots this curve). A text that repeats
itself becomes *likely*: a low NLL is good news only while repetition is low, too, so the two are
always reported together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from itercli.records import Prompt, Record, Trajectory
from itercli.registry import how, register
from itercli.stages.base import Link, ModelLink, StageContext, StageError, Which
from itercli.stages.summary import SummaryStage, Values
from itercli.training.base import Interrupted
from itercli.verifiers.text_quality import rep_n
from itercli.verifiers.words import tokens

if TYPE_CHECKING:
    from itercli.training.collate import Row


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
class LikelihoodStage(SummaryStage):
    """Mean NLL of completions under a role's model, with intervals over prompts.

    A prompt's value is the mean over its completions, a completion's the mean over its tokens.
    Token ids are those of training; what does not fit into the model's context is left out and counted.
    """

    WORKER = "train"

    uses: Literal["likelihood"] = "likelihood"
    of: str = Field(description="A stage with completions, for example `evaluate.sample`.")
    role: str = Field(description="Whose model judges.")
    which: Which = Field("initial", description="Its start model, or its current version.")
    positions: tuple[int, ...] = Field(
        (64, 128, 256, 512, 1024, 2048, 4096, 8192),
        description="Lengths in tokens at which the curve is read.",
    )
    metrics: tuple[Literal["nll"], Literal["rep_4"], Literal["rep_10"]] = Field(
        ("nll", "rep_4", "rep_10"), description="Always these: a loop has a low NLL, too."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on CUDA.")
    batch_tokens: int = how(default=2048, ge=1, description="Tokens of a forward pass, padding included.")
    threads: int = how(default=1, ge=1, description="CPU threads.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("model", self.role, self.which)]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"], params["role"], params["which"]
        return params

    def run(self, ctx: StageContext) -> None:
        drawn = [t for a in ctx.inputs["of"] for t in a.rows(Trajectory)]
        trajectories = {t.key: t for t in drawn}
        if len(trajectories) < len(drawn):
            raise StageError(f"{ctx.name}: {self.of} holds several rows of one prompt and index")
        journal = ctx.journal(Likelihood, total=len(trajectories))
        counts = self._measure(ctx, trajectories, journal)
        rows = sorted((r for r in journal.rows() if isinstance(r, Likelihood)), key=lambda r: r.key)
        if not rows:
            raise StageError(f"{ctx.name}: no completion to measure: {dict(counts)}")
        ctx.finish_rows(Likelihood, iter(rows), **counts)
        ctx.finish_file("curve.json", {"positions": self._curve(rows)})
        values: dict[str, Values] = {name: _by_prompt(rows, name) for name in self.metrics}
        groups = self.table(values, self._prompts(ctx).values(), ctx.seed)
        ctx.finish_file("groups.json", {"by": self.by, "groups": groups})
        ctx.finish_metrics({name: self.mean(of.values(), ctx.seed) for name, of in values.items()})

    def _prompts(self, ctx: StageContext) -> dict[str, Prompt]:
        return {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}

    def _measure(
        self, ctx: StageContext, trajectories: dict[tuple[str, int], Trajectory], journal: Any
    ) -> Counter[str]:
        """Journal all rows that are not there yet; returns what was left out, by reason."""
        import numpy as np
        import torch

        from itercli.sampling.prompting import encode_example
        from itercli.training.collate import Row
        from itercli.training.likelihood import context_length, frozen_model, token_nll
        from itercli.training.models import load_tokenizer

        prompts = self._prompts(ctx)
        ref = ctx.models["model"]
        tokenizer, limit = load_tokenizer(ref), context_length(ref)
        encoded: dict[tuple[str, int], Row] = {}
        counts: Counter[str] = Counter()
        for key, trajectory in trajectories.items():
            if ctx.stopping():
                raise Interrupted
            messages = prompts[trajectory.prompt_id].messages
            ids, prompt_len = encode_example(tokenizer, messages, trajectory.completion)
            ids.pop()  # a text that was cut off has no end of turn, so none is measured
            # Nothing predicts the very first token.
            row = Row(np.asarray(ids, dtype=np.int32), max(prompt_len, 1))
            if row.response_len < 1:
                counts["left out: empty"] += 1
            elif len(ids) > limit:
                counts["left out: longer than the context"] += 1
            else:
                encoded[key] = row
        # Batches are the same whatever is done already: a row's last bits may depend on its neighbours.
        batches = [b for b in self._batches(encoded) if not journal.done.issuperset(b)]
        if not batches:
            return counts
        torch.set_num_threads(self.threads)
        ctx.progress(len(journal.done), len(encoded), "completions", status=f"loading {ref.version}")
        model = frozen_model(ref, self.dtype)
        for batch in batches:
            if ctx.stopping():
                raise Interrupted
            losses = token_nll(model, [encoded[key] for key in batch])
            for key, values in zip(batch, losses, strict=True):
                if key not in journal.done:
                    ids = encoded[key].ids[encoded[key].prompt_len :].tolist()
                    journal.append(self._row(trajectories[key], tokenizer, ids, values))
            ctx.progress(len(journal.done), len(encoded), "completions")
        return counts

    def _batches(self, rows: dict[tuple[str, int], Row]) -> Iterator[list[tuple[str, int]]]:
        """Keys of rows of similar length, longest first, so that what does not fit fails at once."""
        batch: list[tuple[str, int]] = []
        longest = 0
        for key in sorted(rows, key=lambda k: (-len(rows[k].ids), k)):
            longest = longest or len(rows[key].ids)
            if batch and (len(batch) + 1) * longest > self.batch_tokens:
                yield batch
                batch, longest = [], len(rows[key].ids)
            batch.append(key)
        if batch:
            yield batch

    def _row(self, drawn: Trajectory, tokenizer: Any, ids: list[int], losses: Sequence[float]) -> Likelihood:
        def read(n: int) -> dict[str, float]:
            text = drawn.completion if n == len(ids) else tokenizer.decode(ids[:n], skip_special_tokens=True)
            return {"nll": sum(losses[:n]) / n, **_repetition(text)}

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


def _by_prompt(rows: Sequence[Likelihood], name: str) -> Values:
    prompts: dict[str, list[float]] = {}
    for row in rows:
        prompts.setdefault(row.prompt_id, []).append(getattr(row, name))
    return {prompt: _average(values) for prompt, values in prompts.items()}


def _repetition(text: str) -> dict[str, float]:
    words = tokens(text)
    return {f"rep_{n}": rep_n(words, n) for n in (4, 10)}


def _average(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)

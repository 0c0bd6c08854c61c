"""What stages share that run completions through models and keep a row of each.

Token ids are those of training. Rows are journaled batch by batch, and the batches are the
same whatever is done already, so a stage that was killed ends with the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from itercli.records import ModelRef, Prompt, Record, Trajectory
from itercli.registry import how
from itercli.resources import ComputeDtype
from itercli.stages.base import Link, StageContext, StageError
from itercli.stages.summary import SummaryStage, Values
from itercli.training.base import Interrupted

if TYPE_CHECKING:
    from itercli.training.collate import Row

R = TypeVar("R", bound=Record)
Key = tuple[str, int]
# From a completion, its tokenizer, its token ids and each model's NLL of each token to a row.
MakeRow = Callable[[Trajectory, Any, list[int], list[list[float]]], R]


class ForwardStage(SummaryStage):
    """Base of stages that measure completions token by token.

    What does not fit into the model's context is left out and counted.

    Class attributes:
        ENDS: Whether the end-of-turn token of a completion that ended ("stop") is one of its tokens.
    """

    WORKER = "train"
    ENDS: ClassVar[bool] = False

    of: str = Field(description="A stage with completions, for example `evaluate.sample`.")
    role: str = Field(description="Whose model judges.")
    dtype: ComputeDtype = Field("auto", description="auto: bfloat16 on CUDA.")
    batch_tokens: int = how(default=2048, ge=1, description="Tokens of a forward pass, padding included.")
    threads: int = how(default=1, ge=1, description="CPU threads.")

    def links(self, name: str) -> list[Link]:
        return [Link("of", self.of, ("trajectories",), "of")]

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        del params["of"], params["role"]
        return params

    def forward(
        self, ctx: StageContext, record: type[R], like: ModelRef, models: Sequence[ModelRef], row: MakeRow[R]
    ) -> list[R]:
        """Run all completions through the models; they are held in memory together.

        Args:
            like: Its tokenizer and context length are used.
            models: May be none, if the rows are known without them.

        Returns:
            The rows by key; they are the artifact's rows, too.

        Raises:
            StageError: Keys that are not unique, or no completion that can be measured.
        """
        drawn = [t for a in ctx.inputs["of"] for t in a.rows(Trajectory)]
        trajectories = {t.key: t for t in drawn}
        if len(trajectories) < len(drawn):
            raise StageError(f"{ctx.name}: {self.of} holds several rows of one prompt and index")
        journal = ctx.journal(record, total=len(trajectories))
        counts = self._measure(ctx, trajectories, journal, like, models, row)
        rows = sorted((r for r in journal.rows() if isinstance(r, record)), key=lambda r: r.key)
        if not rows:
            raise StageError(f"{ctx.name}: no completion to measure: {dict(counts)}")
        ctx.finish_rows(record, iter(rows), **counts)
        return rows

    def report(self, ctx: StageContext, rows: Sequence[Record]) -> None:
        """Metrics from the rows' fields of these names: a prompt's value is the mean over its rows."""
        values: dict[str, Values] = {name: _by_prompt(rows, name) for name in self.metrics}
        prompts = _prompts(ctx).values()
        clusters = self.clusters_of(ctx.name, prompts)
        groups = self.table(values, prompts, ctx.seed, clusters)
        ctx.finish_file("groups.json", {"by": self.by, "groups": groups})
        ctx.finish_metrics({name: self.mean(of, ctx.seed, clusters) for name, of in values.items()})

    def _measure(
        self,
        ctx: StageContext,
        trajectories: dict[Key, Trajectory],
        journal: Any,
        like: ModelRef,
        models: Sequence[ModelRef],
        row: MakeRow[R],
    ) -> Counter[str]:
        """Journal all rows that are not there yet; returns what was left out, by reason."""
        import torch

        from itercli.training.likelihood import context_length, frozen_model, token_nll
        from itercli.training.models import load_tokenizer

        tokenizer = load_tokenizer(like)
        encoded, counts = self._encode(ctx, trajectories, tokenizer, context_length(like))
        batches = [b for b in self._batches(encoded) if not journal.done.issuperset(b)]
        if not batches:
            return counts
        torch.set_num_threads(self.threads)
        loaded = []
        for ref in models:
            status = f"loading {ref.version}"
            ctx.progress(len(journal.done), len(encoded), "completions", status=status)
            loaded.append(frozen_model(ref, self.dtype))
        ctx.progress(len(journal.done), len(encoded), "completions")
        for batch in batches:
            if ctx.stopping():
                raise Interrupted
            losses = [token_nll(model, [encoded[key] for key in batch]) for model in loaded]
            for n, key in enumerate(batch):
                if key not in journal.done:
                    ids = encoded[key].ids[encoded[key].prompt_len :].tolist()
                    journal.append(row(trajectories[key], tokenizer, ids, [one[n] for one in losses]))
            ctx.progress(len(journal.done), len(encoded), "completions")
        return counts

    def _encode(
        self, ctx: StageContext, trajectories: dict[Key, Trajectory], tokenizer: Any, limit: float
    ) -> tuple[dict[Key, Row], Counter[str]]:
        from itercli.sampling.prompting import needed_end, prompt_of
        from itercli.training.answers import differs, sampled_ids
        from itercli.training.collate import Row

        end = needed_end(tokenizer)
        prompts = _prompts(ctx)
        encoded: dict[Key, Row] = {}
        counts: Counter[str] = Counter()
        for key, trajectory in trajectories.items():
            if ctx.stopping():
                raise Interrupted
            prompt = prompt_of(tokenizer, prompts[trajectory.prompt_id].messages)
            known = trajectory.generated
            ids = sampled_ids(prompt, trajectory.completion, known)
            if ids is None or known is None:
                counts["ids of another tokenizer or text"] += known is not None
                stopped = trajectory.finish == "stop"  # a text that was cut off has no end of turn
                ids = prompt.behind(trajectory.completion, closed=stopped)
                ids += [end] if self.ENDS and stopped else []
            else:
                counts["in the ids sampled"] += 1
                counts["differ when re-encoded"] += differs(prompt, trajectory.completion, known)
                if known.ended and not self.ENDS:
                    ids = ids[:-1]
            row = Row.of(prompt.ids, ids)
            if row.response_len < 1:
                counts["left out: empty"] += 1
            elif len(row.ids) > limit:
                counts["left out: longer than the context"] += 1
            else:
                encoded[key] = row
        return encoded, +counts

    def _batches(self, rows: dict[Key, Row]) -> Iterator[list[Key]]:
        """Keys of rows of similar length, longest first, so that what does not fit fails at once.

        All rows, the finished ones too: a row's last bits may depend on its neighbours.
        """
        batch: list[Key] = []
        longest = 0
        for key in sorted(rows, key=lambda k: (-len(rows[k].ids), k)):
            longest = longest or len(rows[key].ids)
            if batch and (len(batch) + 1) * longest > self.batch_tokens:
                yield batch
                batch, longest = [], len(rows[key].ids)
            batch.append(key)
        if batch:
            yield batch


def _prompts(ctx: StageContext) -> dict[str, Prompt]:
    return {p.id: p for a in ctx.inputs["prompts"] for p in a.rows(Prompt)}


def _by_prompt(rows: Sequence[Record], name: str) -> Values:
    prompts: dict[str, list[float]] = {}
    for row in rows:
        prompts.setdefault(row.key[0], []).append(getattr(row, name))
    return {prompt: sum(values) / len(values) for prompt, values in prompts.items()}

"""What stages share that run a trained model over rows and journal what it says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import Field

from itercli.records import ModelRef
from itercli.registry import how
from itercli.resources import ComputeDtype
from itercli.stages.base import ModelLink, Stage, StageContext, StageError, Which

Key = tuple[str, int]
K = TypeVar("K", bound=tuple[Any, ...])


class ModelStage(Stage):
    """Base of stages in which a role's model judges the rows of another stage, `of`."""

    WORKER = "train"

    of: str
    role: str = Field(description="Whose model judges.")
    which: Which = Field("current", description="Its start model, or its current version.")
    max_length: int = Field(
        1024,
        ge=8,
        description="Longest input in tokens; a shorter context of the model counts. Cut: counted.",
    )
    dtype: ComputeDtype = Field("auto", description="auto: bfloat16 on CUDA.")
    batch_tokens: int = how(default=4096, ge=1, description="Tokens of a forward pass, padding included.")
    threads: int = how(default=1, ge=1, description="CPU threads.")

    def model_links(self) -> list[ModelLink]:
        return [ModelLink("model", self.role, self.which)]

    def key_params(self) -> dict[str, Any]:
        # Which artifacts and models these lead to is in the inputs' keys.
        params = super().key_params()
        for field in ("of", "role", "which"):
            del params[field]
        return params

    def check(self) -> list[tuple[str, ...]]:
        if self.of.startswith("all."):
            return [("of", "rows of several iterations have the same keys", "one stage")]
        return []


class ClassifyStage(ModelStage):
    """Base of stages that ask a sequence classifier."""

    def labels(self) -> int:
        """Outputs of its head."""
        return 1

    def load(self, ctx: StageContext, done: int, total: int, unit: str) -> Any:
        """The classifier, for inference.

        Raises:
            StageError: The model has no such head.
        """
        import torch

        from itercli.training.classifier import frozen_classifier

        ref: ModelRef = ctx.models["model"]
        torch.set_num_threads(self.threads)
        ctx.progress(done, total, unit, status=f"loading {ref.version}")
        try:
            model = frozen_classifier(ref, self.labels(), self.dtype)
        except ValueError as error:
            raise StageError(f"{ctx.name}: {error}") from error
        ctx.progress(done, total, unit)
        return model


def batches(lengths: Mapping[K, int], tokens: int) -> Iterator[list[K]]:
    """Keys of rows to run together: of similar length, longest first, at most `tokens` with padding.

    Give it all rows, the finished ones too: batches must not depend on what is done already, since a
    row's last bits may depend on its neighbours. A row that is longer than `tokens` runs alone.
    """
    batch: list[K] = []
    longest = 0
    for key in sorted(lengths, key=lambda k: (-lengths[k], k)):
        if batch and (len(batch) + 1) * longest > tokens:
            yield batch
            batch = []
        longest = longest if batch else lengths[key]
        batch.append(key)
    if batch:
        yield batch

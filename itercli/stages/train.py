"""Stage `train`: make a new version of a role from examples.

The three choices that papers leave implicit and users trip over are keys here:
`init_from` (which weights training starts from), `reference` (which model a preference
loss is anchored to) and `data_scope` (this iteration's examples, or all so far).
"""

from __future__ import annotations

import shutil
from typing import Any, Literal

from pydantic import Field

from itercli.recipe.fields import Method
from itercli.records import Dialogue, PreferencePair, Record
from itercli.registry import register
from itercli.stages.base import Artifact, ArtifactKind, Link, ModelLink, Stage, StageContext, StageError
from itercli.training.base import TrainingSpec, TrainJob
from itercli.training.step_log import StepLog

# What holds the examples that a method reads.
KINDS: dict[type[Record], ArtifactKind] = {PreferencePair: "pairs", Dialogue: "dialogues"}


@register("stage", "train")
class Train(Stage):
    """Trains a role; its new version is used from the next stage on."""

    OUTPUT = "model"
    WORKER = "train"
    SEEDED = True
    DEFAULTS = ("training",)

    uses: Literal["train"] = "train"
    role: str = Field(description="Role that gets a new version.")
    examples: str = Field(description="The stage with the examples to train on.")
    method: Method = Field(description="How to train: a loss and its options.")
    init_from: Literal["base", "previous"] = Field(
        description="Start from the role's start model, or from its last version."
    )
    reference: Literal["none", "initial", "previous"] = Field(
        "none", description="Frozen reference of preference losses."
    )
    data_scope: Literal["current", "last_two", "all"] = Field(
        "current",
        description="Examples of this iteration, of this and the one before, or of all iterations so far.",
    )
    on_empty: Literal["fail", "skip", "reuse"] = Field(
        "fail",
        description="No examples: stop the run, keep the model as it is, or train on the last iteration's.",
    )
    training: TrainingSpec = Field(description="Optimisation; `training:` of the recipe unless given.")

    def links(self, name: str) -> list[Link]:
        ref = self.examples
        if self.data_scope == "all" and not ref.startswith(("all.", "previous.", "before.")):
            ref = f"all.{ref}"
        kind = KINDS.get(self.method.EXAMPLES, "examples")
        links = [Link("examples", ref, (kind,), "examples")]
        if self.data_scope == "last_two":
            links.insert(0, Link("examples", f"previous.{ref}", (kind,), "examples", optional=True))
        if self.on_empty == "reuse" and self.data_scope == "current" and "." not in self.examples:
            links.append(Link("fallback", f"previous.{self.examples}", (kind,), "examples", optional=True))
        return links

    def model_links(self) -> list[ModelLink]:
        links = [ModelLink("start", self.role, "initial" if self.init_from == "base" else "current")]
        if self.reference != "none":
            links.append(
                ModelLink("reference", self.role, "initial" if self.reference == "initial" else "current")
            )
        return links

    def trains(self) -> str:
        return self.role

    def key_params(self) -> dict[str, Any]:
        # Which artifacts and models these choices lead to is in the inputs' keys.
        params = super().key_params()
        for field in ("examples", "role", "init_from", "data_scope"):
            del params[field]
        return params

    def check(self) -> list[tuple[str, ...]]:
        problems = list(self.method.check(self.training))
        uses = self.method.USES_REFERENCE
        if uses and self.reference == "none":
            problems.append(
                ("reference", f"method {self.method.NAME!r} needs a reference model", "initial, previous")
            )
        if not uses and self.reference != "none":
            problems.append(("reference", f"method {self.method.NAME!r} uses no reference model", "none"))
        excluding = ("previous.", "before.", *(("all.",) if self.data_scope == "last_two" else ()))
        fixed = next((p for p in excluding if self.examples.startswith(p)), None)
        if self.data_scope != "current" and fixed:
            what = f"`data_scope: {self.data_scope}` and `{fixed}` exclude each other"
            problems.append(("examples", what, "data_scope: current"))
        if self.on_empty == "reuse" and (self.data_scope != "current" or "." in self.examples):
            problems.append(
                (
                    "on_empty",
                    "reuse falls back to the last iteration's examples, which are in the data already",
                    "fail, skip",
                )
            )
        return problems

    def run(self, ctx: StageContext) -> None:
        record = self.method.EXAMPLES
        examples = _rows(ctx.inputs["examples"], record)
        if not examples and self.on_empty == "reuse":
            examples = _rows(ctx.inputs.get("fallback", []), record)
        start = ctx.models["start"]
        steps = StepLog(ctx.work)
        if not examples:
            source = ", ".join(a.label for a in ctx.inputs["examples"])
            if self.on_empty != "skip":
                raise StageError(
                    f"{ctx.name}: no examples to train on ({source} is empty). Look at its drop counts with "
                    f"`iter show`; set on_empty=skip to keep the model as it is, or loosen the selector"
                )
            steps.path.unlink(missing_ok=True)  # of an attempt that had some
            ctx.event("train_skipped", reason=f"{source} is empty")
            ctx.finish_model(start.base, adapter=start.adapter, digest=start.digest)
            ctx.finish_metrics({"examples": 0, "steps": 0})
            return
        out = ctx.work / "model"
        shutil.rmtree(out, ignore_errors=True)  # an attempt that was cut off while saving
        out.mkdir(parents=True)

        def report(done: int, total: int, metrics: dict[str, float]) -> None:
            steps.add(done, metrics)
            ctx.progress(done, total, "steps", **metrics)

        job = TrainJob(
            examples=examples,
            start=start,
            reference=ctx.models.get("reference"),
            training=self.training,
            seed=ctx.seed,
            work=ctx.work,
            out=out,
            stopping=ctx.stopping,
            report=report,
            prepared=ctx.progress,
        )
        result = self.method.train(job)
        if (out / "weights").is_dir():
            ctx.finish_model(out / "weights")
        elif (out / "adapter").is_dir():
            ctx.finish_model(start.base, adapter=out / "adapter")
        else:
            raise StageError(
                f"{ctx.name}: method {self.method.NAME!r} left neither weights/ nor adapter/ in {out}"
            )
        ctx.finish_metrics(
            {"examples": len(examples), "steps": result.steps, **result.metrics, **result.counts}
        )


def _rows(artifacts: list[Artifact], record: type[Record]) -> list[Record]:
    """What is to be trained on; pairs that were dropped are only there to be looked at."""
    rows = (row for artifact in artifacts for row in artifact.rows(record))
    return [row for row in rows if getattr(row, "kept", True)]

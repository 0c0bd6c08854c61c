"""The training protocol: examples and a start model in, a new model out, resumable.

Options live in pydantic classes (light); `Method.train` runs in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from itercli.errors import IterError
from itercli.records import ModelRef, Record
from itercli.registry import Component, how
from itercli.resources import ComputeDtype

# What becomes of an answer that the token limit cut off.
OnCut = Literal["no_end_token", "drop", "end_token"]


class LoraSpec(BaseModel):
    """LoRA adapter shape (peft `LoraConfig`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(16, ge=1, description="Rank.")
    alpha: int = Field(32, ge=1, description="Scale numerator: updates are scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the adapter's input, in training.")
    target_modules: str | tuple[str, ...] = Field("all-linear", description="Module names or 'all-linear'.")
    last_layers: int | None = Field(
        None,
        ge=1,
        description="Only in so many layers, counted from the last: those below need no backward pass.",
    )

    @model_validator(mode="after")
    def _names(self) -> LoraSpec:
        pattern = isinstance(self.target_modules, str) and self.target_modules != "all-linear"
        if self.last_layers is not None and pattern:
            raise ValueError("last_layers goes with target_modules: all-linear or a list of names")
        return self


class TrainingSpec(Component):
    """Optimisation options shared by all methods (`training:` in recipes)."""

    tuning: Literal["full", "lora"] = Field("lora", description="All weights, or an adapter on them.")
    lora: LoraSpec = Field(LoraSpec(), description="Shape of the adapter.")
    optimizer: Literal["adamw", "rmsprop", "adafactor", "adagrad", "sgd"] = Field(
        "adamw",
        description="rmsprop is SPIN's; as the `optim` of transformers' Trainer.",
    )
    lr: float = Field(1e-5, gt=0, description="Highest learning rate.")
    epochs: float = Field(1.0, gt=0, description="Passes over the examples of an iteration.")
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps; overrides epochs.")
    batch_size: int = Field(16, ge=1, description="Examples (prompts) per optimizer step.")
    micro_batch_size: int = how(
        default=4, ge=1, description="Examples per forward pass; only trades memory for speed."
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="Course of the learning rate after the warm-up."
    )
    warmup_ratio: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this L2 norm.")
    max_length: int = Field(1024, ge=8, description="Longest prompt + response in tokens.")
    on_cut: OnCut = Field(
        "no_end_token",
        description="Answers cut off by the token limit: train on what is there without an end token, drop "
        "them, or train with an end token as if they were whole.",
    )
    dtype: ComputeDtype = Field(
        "auto", description="auto: bfloat16 on CUDA, float32 on CPU (where bf16 can be twenty times slower)."
    )
    gradient_checkpointing: bool = how(
        default=False, description="Compute activations again in the backward pass: less memory, more time."
    )
    threads: int = how(default=1, ge=1, description="CPU threads; 2 on a busy machine can be slower than 1.")
    checkpoint_seconds: float = how(default=30.0, gt=0, description="Save a checkpoint about this often.")
    checkpoint_steps: int | None = how(default=None, ge=1, description="Also save every so many steps.")

    def key_params(self) -> dict[str, Any]:
        params = super().key_params()
        if self.optimizer == "adamw":  # keys of when there was no other
            del params["optimizer"]
        return params


@dataclass(slots=True)
class TrainJob:
    """Everything a method needs; it knows nothing of runs, stores and recipes.

    Attributes:
        examples: Rows to learn from, in a fixed order.
        start: Model that training starts from. If it carries an adapter and tuning is LoRA,
            that adapter is trained on; with full tuning it is merged first.
        reference: Frozen reference model for methods that have one, else None.
        seed: Seeds data order, dropout and initial adapter weights.
        work: Scratch folder that survives restarts; checkpoints go to `work/checkpoints`.
        out: Folder for the new model: `adapter/` (LoRA) or `weights/` (full, with tokenizer).
        stopping: True once the stage should stop: finish the step, save a checkpoint,
            raise `Interrupted`.
        report: Called with (steps done, steps in all, metrics) after each optimizer step.
        prepared: Called with (done, in all, unit) while something is made ready before the first step.
    """

    examples: Sequence[Record]
    start: ModelRef
    reference: ModelRef | None
    training: TrainingSpec
    seed: int
    work: Path
    out: Path
    stopping: Callable[[], bool]
    report: Callable[[int, int, dict[str, float]], None]
    prepared: Callable[[int, int, str], None] = lambda done, total, unit: None


@dataclass(slots=True)
class TrainResult:
    """What came out: steps taken (asserted to equal those planned), metrics, counts."""

    steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Item(Protocol):
    """An encoded example."""

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens of all its sequences."""
        ...


class TrainingError(IterError):
    """Training can't start or went wrong; the message names the fix."""


class Interrupted(Exception):
    """Work stopped on request with its state saved; not an error."""


class Method(Component):
    """A way to train. Class attributes say what it consumes, for the planner's checks."""

    EXAMPLES: ClassVar[type[Record]]
    USES_REFERENCE: ClassVar[bool] = False

    def check(self, training: TrainingSpec) -> Sequence[tuple[str, ...]]:
        """Optimisation options that this method can't work with, as `Stage.check` reports them.

        Keys are those of the stage: ``training.lora.dropout``, ``method.margin``.
        """
        return []

    def train(self, job: TrainJob) -> TrainResult:
        """Train and leave the model in `job.out`.

        Raises:
            Interrupted: `job.stopping()` became true; a checkpoint was saved.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Options for logs."""
        return self.model_dump(mode="json")

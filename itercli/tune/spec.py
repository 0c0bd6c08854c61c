"""The `tune:` mapping of a recipe: what `iter tune` varies and what it looks at.

It is checked with the recipe and is no part of any stage: no key and no run name depends on it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = int | float


class Knob(BaseModel):
    """The values that one key may take: a list, or an interval.

    In YAML::

        loop.sample.n: [4, 8]
        training.lr: {low: 1.0e-5, high: 1.0e-3, log: true}
        training.epochs: {low: 1, high: 3}              # two whole numbers: whole numbers
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: tuple[Any, ...] = Field((), description="The values, where they are no interval.")
    low: Number | None = Field(None, description="Lowest value.")
    high: Number | None = Field(None, description="Highest value, itself among them.")
    log: bool = Field(False, description="Drawn evenly by its logarithm.")
    step: Number | None = Field(None, gt=0, description="Only low, low + step, low + 2 step ...")

    @model_validator(mode="before")
    @classmethod
    def _a_list_is_choices(cls, value: Any) -> Any:
        return {"choices": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _choices_or_an_interval(self) -> Knob:
        if self.choices:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("choices, or low and high: not both")
            return self
        if self.low is None or self.high is None:
            raise ValueError("a list of values, or a mapping with low and high")
        if self.low >= self.high:
            raise ValueError(f"low < high, but low is {self.low} and high is {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("with log: low > 0 and no step")
        return self

    @property
    def ends(self) -> tuple[Number, Number]:
        """Lowest and highest value of an interval."""
        return self.low or 0, self.high or 0

    @property
    def whole(self) -> bool:
        """Whether an interval is one of whole numbers."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step or 1))


class TuneSpec(BaseModel):
    """How a recipe is tuned; `iter tune` takes any of it from the command line, too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: dict[str, Knob] = Field(default_factory=dict, description="Key of the recipe -> its values.")
    metric: str | None = Field(None, description="STAGE.METRIC of the loop; the headline unless given.")
    direction: Literal["maximize", "minimize"] = "maximize"
    trials: int = Field(20, ge=1, description="Trials in all, earlier calls' included.")
    seeds: int = Field(
        1, ge=1, description="Runs of each trial, with seeds seed, seed + 1 ...; the mean counts."
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="Optuna's sampler.")
    pruner: Literal["median", "halving", "none"] = Field("median", description="Optuna's pruner.")
    startup: int = Field(
        5, ge=1, description="Trials drawn at random before tpe, and finished before median, begin to judge."
    )

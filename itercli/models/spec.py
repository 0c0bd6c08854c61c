"""What a recipe says about a model, and what it resolves to."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from itercli.errors import IterError
from itercli.models.template_date import DEFAULT


class ModelSpec(BaseModel):
    """A model as recipes name it (`model:` and `roles:`).

    Attributes:
        path: A known name (`iter models`), a local folder, or a hub id (`org/name`).
        adapter: Folder of a LoRA adapter on it. Where `path` is an adapter's folder itself, its base
            is the one that its config names.
        served: Instead of `path`: the name of a model behind an OpenAI-compatible server, of
            which nothing is on this machine. Whether the server changes it can't be seen here.
        revision: Branch, tag or commit of a hub id; "main" if not given.
        trust_remote_code: Run the Python files that come with the model. They become part
            of the digest then.
        template_date: Date (YYYY-MM-DD) for chat templates that print today's, so that prompts are the
            same on every day. Others take no notice of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = ""
    adapter: str | None = Field(None, min_length=1)
    served: str | None = Field(None, min_length=1)
    revision: str | None = None
    trust_remote_code: bool = False
    template_date: str = DEFAULT

    @field_validator("template_date")
    @classmethod
    def _date(cls, value: str) -> str:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError(f"a date as YYYY-MM-DD, for example {DEFAULT}") from None

    @model_validator(mode="after")
    def _one_place(self) -> ModelSpec:
        if bool(self.path) == (self.served is not None):
            raise ValueError("`path` (a known name, a folder or a hub id), or `served` (a server's model)")
        if self.served is not None and (self.revision or self.adapter or self.trust_remote_code):
            raise ValueError(
                "`served` without `revision`, `adapter` and `trust_remote_code`, which are the server's"
            )
        return self


class ResolvedModel(BaseModel):
    """A model on this machine.

    Attributes:
        path: Local folder with config, weights and tokenizer; None for a served model.
        adapter: Folder of the LoRA adapter on it, or None.
        digest: Identifies the weights and the tokenizer: "sha256:..." for folders,
            "hub:ORG/NAME@COMMIT" for hub models, "served:NAME" for served ones; "+adapter:..." follows
            where there is one.
        source: "shipped", "pulled", "folder", "hub", "served", or "absent": not fetched yet.
        trust_remote_code: Whether its own Python files may be run.
        template_date: ISO date that its chat template prints; None if it prints none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None
    adapter: Path | None = None
    digest: str
    source: Literal["shipped", "pulled", "folder", "hub", "served", "absent"]
    trust_remote_code: bool = False
    template_date: str | None = None


class ModelError(IterError):
    """A model can't be used or pulled; the message says what to do."""


class ModelNotFound(ModelError):
    """No such model on this machine; the message names the places looked at and the fix."""


class ModelNotHere(ModelNotFound):
    """A model that would be fetched on first use, but is not on this machine yet."""

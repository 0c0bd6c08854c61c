"""What a recipe says about a model, and what it resolves to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from itercli.errors import IterError


class ModelSpec(BaseModel):
    """A model as recipes name it (`model:` and `roles:`).

    Attributes:
        path: A known name (`iter models`), a local folder, or a hub id (`org/name`).
        revision: Branch, tag or commit of a hub id; "main" if not given.
        trust_remote_code: Run the Python files that come with the model. They become part
            of the digest then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(min_length=1)
    revision: str | None = None
    trust_remote_code: bool = False


class ResolvedModel(BaseModel):
    """A model on this machine.

    Attributes:
        path: Local folder with config, weights and tokenizer.
        digest: Identifies the weights and the tokenizer: "sha256:..." for folders,
            "hub:ORG/NAME@COMMIT" for hub models.
        source: "shipped", "pulled", "folder" or "hub".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    digest: str
    source: Literal["shipped", "pulled", "folder", "hub"]


class ModelError(IterError):
    """A model can't be used or pulled; the message says what to do."""


class ModelNotFound(ModelError):
    """No such model on this machine; the message names the places looked at and the fix."""

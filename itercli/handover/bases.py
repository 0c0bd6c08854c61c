"""What others call the model that a run started from, and under which licence it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.handover.versions import Version
from itercli.models.digest import folder_digest
from itercli.models.hub import is_hub_id
from itercli.models.known import is_model_folder, known

HUB = "hub:"


@dataclass(frozen=True)
class Base:
    """The start model by a name that means something on other machines.

    Attributes:
        name: Hub id, or what people call it.
        revision: Commit of a hub model.
        licence: As hubs write it, for example "apache-2.0"; empty if it is not known.
        exact: Whether `name` leads to the very weights that the run started from.
    """

    name: str
    revision: str | None = None
    licence: str = ""
    exact: bool = False

    @property
    def hub(self) -> str | None:
        """The hub id, if it is one."""
        return self.name if is_hub_id(self.name) else None


def base_of(version: Version, told: str | None) -> Base:
    """The start model's portable name; `told` overrides what is known here."""
    start = version.start
    path = Path(start["path"])
    licence = ""
    origin = ""
    digest = str(start["digest"]).partition("+")[0]  # what follows is a start adapter's
    for model in known():
        # By content: a copy of the folder is the same model under the same licence.
        if model.path == path or (is_model_folder(model.path) and folder_digest(model.path) == digest):
            licence, origin = model.licence.lower(), model.name
    made_from = _json(path / "origin.json").get("model")
    licence = licence or _front_matter(path / "README.md").get("license", "")
    if told is not None:
        return Base(told, None, licence, exact=True)
    if str(start["digest"]).startswith(HUB):
        repo, _, commit = start["digest"].removeprefix(HUB).partition("@")
        return Base(repo, commit, licence, exact=True)
    return Base(str(made_from or origin or path.name), None, licence, exact=False)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _front_matter(path: Path) -> dict[str, Any]:
    """YAML between the first two lines of dashes of a model card."""
    import yaml

    try:
        _, text, _ = path.read_text("utf-8").split("---\n", 2)
        found = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}

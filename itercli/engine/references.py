"""What runs refer to: artifacts of their plans, and whatever else of the store they name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itercli.engine.checked import Damaged, read_document
from itercli.engine.runs import RUN_FILE, Run
from itercli.engine.shapes import RunInfo
from itercli.errors import IterError

# A folder with one of these was a run; one without began a moment ago, or is something else.
TRACES = ("events.jsonl", "metrics.jsonl", "logs", "before", "iteration-01", "after")


@dataclass(frozen=True, slots=True)
class Reference:
    """What one run refers to.

    Attributes:
        nodes: The plan in its run.json.
        words: All words of its config.yaml and of the rest of run.json. A key among them is a
            reference too: a start model, or a file of another run's artifact.
    """

    run: Run
    nodes: dict[str, dict[str, Any]]
    words: frozenset[str]

    @property
    def keys(self) -> frozenset[str]:
        """Keys of all artifacts of the plan."""
        return frozenset(place["key"] for place in self.nodes.values())


def references(root: Path) -> list[Reference]:
    """References of all runs in a folder.

    Raises:
        IterError: A run can't be read, so nobody knows what it refers to.
    """
    folders = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    return [found for path in folders if (found := _reference(path)) is not None]


def _reference(folder: Path) -> Reference | None:
    path = folder / RUN_FILE
    try:
        info = read_document(path, RunInfo)
        if info is None:
            if not any((folder / name).exists() for name in TRACES) or folder.name.startswith("."):
                return None
            raise _unknown(folder, f"{path} is missing")
        nodes = info.pop("nodes")
        if not all(isinstance(p["kind"], str) and isinstance(p["key"], str) for p in nodes.values()):
            raise TypeError("a stage without a key")
    except Damaged as error:
        raise _unknown(folder, str(error)) from None
    except (TypeError, KeyError, AttributeError) as error:
        raise _unknown(folder, f"{path} can't be read ({type(error).__name__}: {error})") from error
    config = folder / "config.yaml"
    rest = json.dumps(info) + (config.read_text(errors="replace") if config.is_file() else "")
    return Reference(Run(folder), nodes, frozenset(re.findall(r"[0-9A-Za-z]+", rest)))


def _unknown(folder: Path, what: str) -> IterError:
    return IterError(
        f"{what}, so what run {folder.name} refers to is not known, and nothing is removed. Run it again, "
        f"or delete {folder} if it is not wanted any more"
    )

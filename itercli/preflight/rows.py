"""The prompts that a plan's stages will get, as far as they can be known before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from itercli.data.base import DataError
from itercli.data.preferences import read_preferences
from itercli.engine.checked import Damaged
from itercli.engine.rows import read_rows
from itercli.engine.store import ROWS, Store
from itercli.errors import IterError
from itercli.recipe.plan import Node, Plan
from itercli.records import Prompt
from itercli.stages.preferences import Preferences
from itercli.stages.prompts import Prompts
from itercli.stages.slice import Slice

FIRST = 1000  # rows of a source that are looked at unless all are
SHOWN = 20  # errors of a source that are reported


@dataclass
class Seen:
    """What was seen of a stage's prompts.

    Attributes:
        whole: Whether these are all.
        errors: What is wrong with the data.
    """

    rows: list[Prompt] = field(default_factory=list)
    whole: bool = True
    errors: list[str] = field(default_factory=list)


class Rows:
    """Reads each source once.

    Args:
        store: Where finished artifacts are taken from instead of reading the source again.
        limit: Rows of a source at most; None for all.
    """

    def __init__(self, plan: Plan, store: Store | None, limit: int | None) -> None:
        self.plan, self.store, self.limit = plan, store, limit
        self._seen: dict[str, Seen | None] = {}

    def of(self, node: Node) -> Seen | None:
        """Prompts of a stage that makes some; None where only running it can tell."""
        if node.key not in self._seen:
            self._seen[node.key] = self._look(node)
        return self._seen[node.key]

    def _look(self, node: Node) -> Seen | None:
        if self.store is not None and (found := _stored(self.store, node)) is not None:
            return found
        if isinstance(node.stage, Prompts):
            source: Any = node.stage.source
            here = getattr(source, "here", None)  # a plug-in's may be any component
            return self._read(source) if here is None or here() else None
        if isinstance(node.stage, Slice):
            parts = [self.of(self.plan.nodes[i]) for i in node.inputs["whole"]]
            if any(part is None for part in parts):
                return None
            known = [part for part in parts if part is not None]
            rows = [row for part in known for row in part.rows]
            return Seen(node.stage.share(rows, node.iteration), all(part.whole for part in known))
        return None

    def _read(self, source: Any) -> Seen:
        seen, ids = Seen(), set[str]()
        read = 0
        for item in islice(_items(source), self.limit):
            read += 1
            if isinstance(item, DataError):
                seen.errors.append(str(item))
                if len(seen.errors) == SHOWN:
                    break
            elif not isinstance(item, Prompt):
                seen.errors.append(f"source {source.NAME} gives a {type(item).__name__}, not a Prompt")
                break
            elif item.id in ids:
                seen.errors.append(
                    f"source {source.NAME} gives prompt id {item.id!r} twice; ids must be unique"
                )
            else:
                ids.add(item.id)
                seen.rows.append(item)
        seen.whole = not seen.errors and (self.limit is None or read < self.limit)
        if read == 0:
            seen.errors.append(f"source {source.NAME} gives no prompts; check its path, split and limit")
        return seen


def _items(source: Any) -> Iterator[Any]:
    try:
        yield from source.read() if hasattr(source, "read") else source.prompts()
    except DataError as error:
        yield error
    except IterError as error:
        yield DataError(source.NAME, None, str(error), "")
    except Exception as error:  # a plug-in may raise anything
        yield DataError(
            f"source {source.NAME}", None, f"{type(error).__name__}: {error}", "Correct the source"
        )


def pairs_error(stage: Preferences, limit: int | None) -> str:
    """What is wrong with a file of labelled pairs, or an empty string."""
    stop = limit if stage.limit is None else min(stage.limit, limit or stage.limit)
    try:
        for _ in islice(read_preferences(stage.path.expanduser()), stop):
            pass
    except IterError as error:
        return str(error)
    return ""


def _stored(store: Store, node: Node) -> Seen | None:
    entry = store.entry(node.kind, node.key)
    if entry.manifest is None:
        return None
    try:
        return Seen(list(read_rows(entry.file(ROWS), Prompt)))
    except (Damaged, OSError, ValueError):  # damaged, or just removed: the run sees to it
        return None

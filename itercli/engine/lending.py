"""Rows that earlier artifacts lend, so that a changed data file costs the rows that changed.

A stage's key covers all of its prompts: with one more it is another artifact. But a row of a *row-wise*
stage depends on its own prompt alone (its seed is made of the prompt's id), beside options, code,
models and the stage's seed. Artifacts that have all of these in common are a *family*, and one of them
takes from another, finished or not, the rows of prompts that both have with the same content. It
takes copies, so that each artifact stays whole by itself, and equal to the bytes of one that was computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from itercli import registry
from itercli.engine.checked import Damaged, read_document, write_document
from itercli.engine.files import is_held
from itercli.engine.journal import whole_rows
from itercli.engine.rows import read_rows
from itercli.engine.store import ATTEMPT, JOURNAL, LOCK, ROWS, Entry, Store
from itercli.errors import IterError
from itercli.recipe.seeds import digest
from itercli.records import Record
from itercli.stages.base import Stage

R = TypeVar("R", bound=Record)
LOOKED_AT = 500  # artifacts of a kind, newest first: stores grow, and the relative is nearly always new


@dataclass(frozen=True)
class Lender:
    """An artifact of the same family.

    Attributes:
        made_from: Slot -> the artifacts that its rows were made from, by key and digest (empty: it grew).
        finished: Whether it is sealed; else its journal is read.
    """

    store: Store
    entry: Entry
    made_from: Mapping[str, list[dict[str, str]]]
    finished: bool

    @property
    def key(self) -> str:
        """Its stage key."""
        return self.entry.key

    def rows(self, record: type[R]) -> Iterator[R]:
        """Its rows; they end where the artifact is damaged or being removed."""
        with suppress(OSError, ValueError, Damaged):
            yield from _rows(self.entry, self.finished, record)

    def inputs(self, slot: str, kind: str, record: type[R]) -> Iterator[R]:
        """The rows that its rows in a slot were made from, of those inputs that are as they were."""
        for place in self.made_from.get(slot, ()):
            entry = self.store.entry(kind, place["key"])
            with suppress(OSError, ValueError, Damaged):
                manifest = entry.sealed()
                # Made again since, with other content: these are not what its rows are of.
                if manifest is None or place["digest"] in ("", manifest["digest"]):
                    yield from _rows(entry, manifest is not None, record)


def _rows(entry: Entry, finished: bool, record: type[R]) -> Iterator[R]:
    return read_rows(entry.file(ROWS), record) if finished else whole_rows(entry.path / JOURNAL, record)


def note_attempt(entry: Entry, content: Mapping[str, Any]) -> None:
    """Keep beside an unfinished attempt's journal what its manifest will say that its rows were made from."""
    write_document(entry.path / ATTEMPT, content)


def lenders(
    store: Store, entry: Entry, stage: Stage, ingredients: Mapping[str, Any], made: Mapping[str, str]
) -> Iterator[Lender]:
    """Other artifacts of an artifact's family, the newest first.

    Args:
        entry: The artifact that takes.
        made: Slot -> digest of the model that was trained for it: a key may have been computed twice. A
            plan leaves out those that aren't there yet.
    """
    if stage.ROWWISE:
        yield from Relatives(store).of(entry, stage, ingredients, made)


class Relatives:
    """The artifacts of a store by family; what is read of them once is kept.

    Args:
        planned: Key -> ingredients of artifacts that needn't be there yet.
    """

    def __init__(self, store: Store, planned: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.store, self.planned = store, planned or {}
        self._known = cache(_made_from)

    def of(
        self, entry: Entry, stage: Stage, ingredients: Mapping[str, Any], made: Mapping[str, str]
    ) -> Iterator[Lender]:
        """See `lenders`."""
        family = self._family(stage, ingredients)
        for other in _newest(self.store, entry.kind) if family else ():
            if other.key == entry.key:
                continue
            known = self._known(other)
            if known is None or self._family(stage, known["ingredients"]) != family:
                continue
            models = {slot: model.get("digest") for slot, model in known.get("models", {}).items()}
            if any(models.get(slot, found) != found for slot, found in made.items()):
                continue
            yield Lender(self.store, other, known["inputs"], "files" in known)

    def _family(self, stage: type[Stage] | Stage, ingredients: Mapping[str, Any]) -> str:
        """What artifacts have in common whose rows differ only where their prompts do; empty if unknown.

        Of the rows that theirs are made from, prompts may be any, others must be of one family too:
        scores of another model's samples have nothing to lend.
        """
        options = ingredients.get("options", {})
        inputs: dict[str, list[str]] = {}
        for slot, keys in ingredients.get("inputs", {}).items():
            kind = stage.ROWWISE.get(slot)
            if kind != "prompts":
                inputs[slot] = keys if kind is None else [self._lineage(kind, key) for key in keys]
                if "" in inputs[slot]:
                    return ""
        kept = {name: value for name, value in options.items() if name not in stage.NOT_IN_ROWS}
        return digest({**ingredients, "options": kept, "inputs": inputs})

    def _lineage(self, kind: str, key: str) -> str:
        """Family of an input."""
        ingredients = self.planned.get(key)
        if ingredients is None:
            known = _made_from(self.store.entry(kind, key), running=True)
            ingredients = known and known["ingredients"]
        stage = ingredients and registry.find("stage", str(ingredients["stage"]))
        return self._family(stage, ingredients) if stage else ""  # type: ignore[arg-type]


def _newest(store: Store, kind: str) -> list[Entry]:
    found: list[tuple[float, Entry]] = []
    with suppress(OSError):
        for path in (store.root / kind).iterdir():
            if ".damaged-" not in path.name:
                with suppress(OSError):
                    found.append((path.stat().st_mtime, Entry(path, kind, path.name)))
    return [entry for _, entry in sorted(found, key=lambda item: -item[0])[:LOOKED_AT]]


def _made_from(entry: Entry, *, running: bool = False) -> dict[str, Any] | None:
    """The manifest, or what is noted of an attempt; None where there is neither.

    Args:
        running: Also of one that is worked on.
    """
    try:
        if (manifest := entry.sealed()) is not None:
            return manifest
        # Rows of an attempt under way may yet turn out to be of code or data that were edited meanwhile.
        held = not running and is_held(entry.path / LOCK)
        return None if held else read_document(entry.path / ATTEMPT)
    except (IterError, OSError):
        return None

"""Rows in the store, finished or still in a journal, and the rows that they go back to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from itercli import records
from itercli.engine.checked import Damaged, parse, unseal
from itercli.engine.rows import read_rows, read_table
from itercli.engine.runs import Run
from itercli.engine.store import JOURNAL, ROWS, Entry

Row = dict[str, Any]


def entry_of(run: Run, node: str) -> Entry:
    """The place of a node's artifact."""
    place = run.info["nodes"][node]
    return run.store.entry(place["kind"], place["key"])


def stored_rows(entry: Entry) -> Iterator[Row]:
    """Rows as mappings: of the finished artifact, else of the journal.

    Raises:
        LookupError: The file is damaged.
    """
    try:
        if entry.sealed() is None:
            try:
                with open(entry.path / JOURNAL, "rb") as handle:
                    yield from _journaled(handle)
                return
            except FileNotFoundError:
                if entry.sealed() is None:
                    return  # not begun; otherwise it was sealed just now
        path = entry.file(ROWS)
    except Damaged as error:
        raise LookupError(f"{error}; running the recipe again makes it again") from None
    manifest = entry.manifest or {}
    record = getattr(records, manifest.get("record") or "", None)
    try:
        if isinstance(record, type) and issubclass(record, records.Record):
            for item in read_rows(path, record):
                yield item.model_dump(mode="json")
        else:
            yield from read_table(path)  # a plug-in's record: nested values stay JSON text
    except (OSError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise LookupError(f"{path} can't be read: {what}; running the recipe again makes it again") from None


def _journaled(lines: Iterable[bytes]) -> Iterator[Row]:
    """Rows of an unfinished stage; damaged lines are left out, the next attempt does them again."""
    for line in lines:
        try:
            row = parse(unseal(line))
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def prompts_of(run: Run, node: str, wanted: set[str]) -> dict[str, Row]:
    """The prompts that a node's rows answer, by id."""
    manifest = entry_of(run, node).manifest
    if manifest and manifest["inputs"].get("prompts"):
        entries = [run.store.entry("prompts", i["key"]) for i in manifest["inputs"]["prompts"]]
    else:
        entries = [entry_of(run, i) for i in _upstream(run, node, "prompts")]
    return {r["id"]: r for r in _pick(entries, lambda r: r["id"] in wanted, len(wanted))}


def drawn_for(run: Run, node: str, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], Row]:
    """The trajectories behind scores, by key."""
    entries = [entry_of(run, i) for i in _upstream(run, node, "trajectories")]
    rows = _pick(entries, lambda r: (r["prompt_id"], r["index"]) in wanted, len(wanted))
    return {(r["prompt_id"], r["index"]): r for r in rows}


def _pick(entries: list[Entry], fits: Callable[[Row], bool], count: int) -> Iterator[Row]:
    """Up to `count` rows that fit; what can't be read is left out, the rest is still worth showing."""
    for entry in entries:
        try:
            for row in stored_rows(entry):
                if count <= 0:
                    return
                if fits(row):
                    count -= 1
                    yield row
        except LookupError:
            continue


def _upstream(run: Run, node: str, kind: str) -> list[str]:
    """The nearest nodes of a kind that a node was made from."""
    nodes = run.info["nodes"]
    todo, seen, found = [node], {node}, []
    while todo:
        for i in nodes[todo.pop(0)]["needs"]:
            if i in nodes and i not in seen:
                seen.add(i)
                if nodes[i]["kind"] == kind:
                    found.append(i)
                elif nodes[i]["kind"] != "model":
                    todo.append(i)
    return found

"""Source `datasets`: prompts from what the `datasets` library reads, on this machine or on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from itercli.data.base import DataError, RowSource, hash_files
from itercli.data.sources import LastAnswer, PromptRows
from itercli.models.hub import is_hub_id
from itercli.records import Prompt
from itercli.registry import register

COMMIT = re.compile(r"[0-9a-f]{40}")
BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".tsv": "csv"} | dict.fromkeys(
    (".json", ".jsonl"), "json"
)
SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` leaves in a folder


@register("source", "datasets")
class Datasets(RowSource):
    """Prompts from a table: Parquet, Arrow, CSV or JSON files, a saved data set, or one of the hub.

    A row is one prompt. `columns` says which column is which field of a `jsonl` row (`prompt` or
    `messages`, `id`, `reference`); fields that it leaves out have columns of their own name. All
    other columns go into `meta`.

    Attributes:
        path: A file, a folder of files, a folder written by `save_to_disk`, or a hub id (ORG/NAME).
        revision: Commit of a hub data set, all 40 digits: a branch would not say which data it was.
        config: Configuration of a hub data set that has several ("main", "en" ...).
        split: Split to read.
        columns: Field of a prompt -> column of the table.
        keep: Columns that go into `meta`; None for all.
        offset: Rows to skip.
        limit: Rows to give, None for all.
        last_answer: As of `jsonl`: messages that end with the assistant's answer "fail", give their
            "reference", or "keep" it in the prompt.
    """

    PROMPT_FIELDS: ClassVar[tuple[str, ...]] = ("prompt", "messages", "id", "reference")

    path: str = Field(json_schema_extra={"how": True})
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict)
    keep: tuple[str, ...] | None = None
    offset: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    last_answer: LastAnswer = "fail"

    @model_validator(mode="after")
    def _check(self) -> Datasets:
        if unknown := self.columns.keys() - set(self.PROMPT_FIELDS):
            fields = ", ".join(self.PROMPT_FIELDS)
            raise ValueError(f"`columns` has {', '.join(sorted(unknown))}; a prompt's fields are {fields}")
        if self._on_hub and not COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                f"{self.path} is a data set of the hub: `revision:` must name a commit of it, 40 digits "
                "(its page, Files and versions, History)"
            )
        return self

    @property
    def _on_hub(self) -> bool:
        return is_hub_id(self.path) and not self._local.exists()

    @property
    def _local(self) -> Path:
        return Path(self.path).expanduser()

    def here(self) -> bool:
        return not self._on_hub

    def fingerprint(self) -> dict[str, str]:
        if self._on_hub:
            return {"hub": f"{self.path}@{self.revision}"}
        return hash_files(self._files())

    def read(self) -> Iterator[Prompt | DataError]:
        rows = PromptRows(Path(self.path), self.last_answer)
        stop = None if self.limit is None else self.offset + self.limit
        try:
            for number, row in islice(enumerate(self._table(), 1), self.offset, stop):
                yield rows.prompt(number, self._fields(number, row))
        except DataError as error:
            yield error

    def _table(self) -> Iterator[dict[str, Any]]:
        """Rows, as Python values."""
        import datasets

        try:
            if self._on_hub:
                table = datasets.load_dataset(
                    self.path, self.config, split=self.split, revision=self.revision
                )
            elif any((self._local / name).is_file() for name in SAVED):
                table = datasets.load_from_disk(str(self._local))
                table = table[self.split] if isinstance(table, datasets.DatasetDict) else table
            else:
                table = self._stream(self._files())
            yield from table
        except DataError:
            raise
        except Exception as error:  # the library passes on what its readers raise
            reason = str(error).partition("\n")[0]
            what = f"the datasets library can't read it: {type(error).__name__}: {reason}"
            raise DataError(self.path, None, what, "Check path, config, split and the files") from error

    def _stream(self, files: list[Path]) -> Any:
        """Rows of files, streamed: the library keeps no copy, which could be one of older files."""
        import datasets

        builder = _builder(files[0])
        options: dict[str, Any] = {}
        if builder == "csv":
            options["sep"] = "\t" if ".tsv" in files[0].suffixes else ","
            # It would take texts that look like numbers for numbers.
            options["converters"] = {self.columns.get(field, field): str for field in self.PROMPT_FIELDS}
        return datasets.load_dataset(
            str(builder),
            data_files={self.split: [str(path) for path in files]},
            split=self.split,
            streaming=True,
            **options,
        )

    def _files(self) -> list[Path]:
        """Files of a local data set, sorted.

        Raises:
            DataError: There are none, or of several formats.
        """
        folder = self._local
        if not folder.is_dir():
            found = [folder]
        elif any((folder / name).is_file() for name in SAVED):
            return sorted(path for path in folder.rglob("*") if path.is_file())
        else:
            found = sorted(path for path in folder.iterdir() if _builder(path))
            # `train-00000-of-00002.parquet`: files that name splits are taken by theirs.
            split = re.compile(rf"(^|[-_.]){re.escape(self.split)}([-_.]|$)")
            found = [path for path in found if split.search(path.name)] or found
        kinds = {_builder(path) for path in found}
        if not kinds or None in kinds:
            what = "no Parquet, Arrow, CSV or JSON file"
            raise DataError(folder, None, what, "Name such a file, or a folder with some")
        if len(kinds) > 1:
            raise DataError(folder, None, "files of several formats", "Name one file")
        return found

    def _fields(self, number: int, row: dict[str, Any]) -> dict[str, Any] | DataError:
        """A row as a line of `jsonl`."""
        named = {field: self.columns.get(field, field) for field in self.PROMPT_FIELDS}
        for field, column in self.columns.items():
            if column not in row:
                what = f"no column {column!r}, only {', '.join(map(repr, row))}"
                return DataError(self.path, number, what, f"Correct `columns: {{{field}: ...}}`")
        found = {field: row[column] for field, column in named.items() if row.get(column) is not None}
        if isinstance(found.get("messages"), list):
            # A table has the same fields in all rows, empty where a message has none.
            turns = [turn for turn in found["messages"] if isinstance(turn, dict)]
            found["messages"] = [{k: v for k, v in turn.items() if v is not None} for turn in turns]
        if isinstance(found.get("reference"), int):
            found["reference"] = str(found["reference"])
        others = [column for column in row if column not in named.values()]
        meta = {c: row[c] for c in others if self.keep is None or c in self.keep}
        for column, value in meta.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                what = f"column {column!r} holds a {type(value).__name__} that JSON can't"
                return DataError(self.path, number, what, "Name the columns for `meta` in `keep: [...]`")
        return {**found, "meta": meta}


def _builder(path: Path) -> str | None:
    return BUILDERS.get(Path(path.name.removesuffix(".gz")).suffix)

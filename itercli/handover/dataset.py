"""Export a stage's rows as Parquet files with a card that `datasets.load_dataset(DIR)` reads.

In the store nested values are JSON text. Here lists and records become Arrow lists and structs,
so that every library reads them; only free mappings (`meta`) stay JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from itercli import records
from itercli.engine.runs import Run
from itercli.handover.card import table
from itercli.handover.folder import new_folder, without_paths
from itercli.handover.versions import HandoverError
from itercli.records import Message, Record
from itercli.report.rows import Row, entry_of, prompts_of, stored_rows
from itercli.report.samples import choose
from itercli.report.stages import StageView, stage_views
from itercli.report.text import clean

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "itercli.dataset/1"
BATCH = 1024


@dataclass
class ExportedRows:
    """What was written.

    Attributes:
        nodes: Node -> rows.
        columns: Name -> Arrow type.
    """

    path: Path
    stage: str
    kind: str
    nodes: dict[str, int] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)


def export_rows(
    run: Run, stage: str, target: Path, *, iteration: str = "all", force: bool = False
) -> ExportedRows:
    """Write the finished rows of a stage, one file an iteration.

    Args:
        stage: Name as in the recipe, or a node.
        iteration: ``all``, ``last``, or a number.

    Raises:
        HandoverError: No such stage, or nothing finished.
    """
    views = _views(run, stage, iteration)
    kind = views[0].place["kind"]
    done = ExportedRows(target, views[0].node.partition("/")[2], kind)
    with new_folder(target, root=run.root, force=force) as folder:
        (folder / "data").mkdir()
        for view in views:
            path = folder / "data" / f"{view.node.partition('/')[0]}.parquet"
            done.nodes[view.node], done.columns = _write(run, view, path)
        (folder / "README.md").write_text(_card(run, done, views), "utf-8")
    return done


def _views(run: Run, stage: str, iteration: str) -> list[StageView]:
    """The finished artifacts to export, each once."""
    if iteration not in ("all", "last") and not iteration.isdigit():
        raise HandoverError(f"--iteration {iteration!r}: all, last or a number")
    try:
        node = choose(run, stage=stage, iteration=int(iteration) if iteration.isdigit() else None)
    except LookupError as error:
        raise HandoverError(str(error)) from None
    name = node.partition("/")[2]
    found: dict[str, StageView] = {}
    for view in stage_views(run, alive=False):
        same = (
            view.node == node if stage == node or iteration == "last" else view.node.partition("/")[2] == name
        )
        if same and iteration.isdigit() and view.place["iteration"] != int(iteration):
            continue
        if same and view.state == "done":
            found.setdefault(view.place["key"], view)  # every iteration may read the same prompts
    if not found:
        raise HandoverError(f"{stage} of {run.name} is not finished; finish it with `iter resume {run.name}`")
    return list(found.values())


def _write(run: Run, view: StageView, path: Path) -> tuple[int, dict[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    entry = entry_of(run, view.node)
    record = getattr(records, (entry.manifest or {}).get("record") or "", None)
    rows: Iterator[Row] = stored_rows(entry)
    first = next(rows, None)
    columns: dict[str, Any] = {"iteration": int}
    if isinstance(record, type) and issubclass(record, Record):
        columns |= {name: info.annotation for name, info in record.model_fields.items()}
    else:  # a plug-in's: nested values stay JSON text
        columns |= dict.fromkeys(first or {}, Any)
    answers = "prompt_id" in columns and not {"messages", "opening"} & columns.keys()
    if answers:
        columns["prompt"] = list[Message] | None
    schema = pa.schema([pa.field(name, _type(of)) for name, of in columns.items()])
    if record is None and first is not None:  # scalars as the store has them
        schema = _stored_schema(entry.path / "rows.parquet", schema)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        everything = iter([] if first is None else [first, *rows])
        while batch := list(islice(everything, BATCH)):
            prompts = prompts_of(run, view.node, {str(r["prompt_id"]) for r in batch}) if answers else {}
            extra = {"iteration": view.place["iteration"]}
            whole: Iterable[Row] = (
                {**row, **extra, "prompt": prompts.get(str(row.get("prompt_id")), {}).get("messages")}
                for row in batch
            )
            encoded = [{n: _value(row.get(n), of) for n, of in columns.items()} for row in whole]
            writer.write_table(pa.Table.from_pylist(encoded, schema))
            count += len(batch)
    return count, {f.name: str(f.type) for f in schema}


def _stored_schema(path: Path, schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = pq.read_schema(path)
    names = set(stored.names)
    return pa.schema([stored.field(f.name) if f.name in names else f for f in schema])


def _plain(annotation: Any) -> Any:
    """Without `| None`."""
    if get_origin(annotation) in (Union, UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return inner[0] if len(inner) == 1 else Any
    return annotation


def _type(annotation: Any) -> pa.DataType:
    """Arrow's type of a field; text for what has no fixed shape."""
    import pyarrow as pa

    of = _plain(annotation)
    if get_origin(of) in (list, tuple):
        return pa.list_(_type(get_args(of)[0]))
    if isinstance(of, type) and issubclass(of, BaseModel):
        return pa.struct([pa.field(n, _type(info.annotation)) for n, info in of.model_fields.items()])
    return {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}.get(of, pa.string())


def _value(value: Any, annotation: Any) -> Any:
    of = _plain(annotation)
    if value is None:
        return None
    if get_origin(of) in (list, tuple):
        return [_value(item, get_args(of)[0]) for item in value]
    if isinstance(of, type) and issubclass(of, BaseModel):
        return {n: _value(value.get(n), info.annotation) for n, info in of.model_fields.items()}
    if of in (str, int, float, bool) or get_origin(of) is Literal or not isinstance(value, dict | list):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _card(run: Run, done: ExportedRows, views: list[StageView]) -> str:
    info = run.info
    front = {
        "tags": ["itercli", str(info.get("recipe")), done.kind],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    rows = []
    for view in views:
        counts = ", ".join(f"{n} {name}" for name, n in view.counts.items() if n)
        models = ", ".join(dict.fromkeys(view.place["models"].values()))
        rows.append([view.node, str(done.nodes[view.node]), models, counts, view.place["key"]])
    versions = (views[-1].entry.manifest or {}).get("versions", {})
    parts = [
        f"# {clean(str(info.get('recipe')))}: rows of {done.stage}",
        f"{sum(done.nodes.values())} rows of the kind `{done.kind}`, made by the stage `{done.stage}` "
        f"(`{views[0].place['uses']}`) of the recipe `{info.get('recipe')}`, run by itercli. "
        "**They hold texts that language models wrote.**",
        '```python\nfrom datasets import load_dataset\n\nrows = load_dataset(".", split="train")\n```',
        "## Rows by iteration\n\n" + table(["stage", "rows", "models", "counts", "key"], rows),
        "## Columns\n\n"
        + table(["column", "type"], [[name, of] for name, of in done.columns.items()])
        + "\n\n`iteration` 0 is before the loop. Free mappings (`meta`) are JSON text. `prompt` is what it "
        "answers.",
        "## Made with\n\n"
        + "\n".join(f"- {name} {its}" for name, its in versions.items())
        + f"\n- schema `{SCHEMA}`",
    ]
    header = yaml.safe_dump(front, sort_keys=False)
    text = "\n\n".join(parts)
    return f"---\n{header}---\n\n{without_paths(text)}\n"

"""Source `datasets`: local files of each format, a saved data set, columns, what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from itercli.data.base import DataError
from itercli.data.sources import Jsonl
from itercli.data.tables import Datasets

ROWS = [
    {"question": "2 + 2?", "answer": "4", "level": 1},
    {"question": "3 * 3?", "answer": "9", "level": 2},
]
COLUMNS = {"prompt": "question", "reference": "answer"}


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """A file of the format that its name says, written as other tools would."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        import json

        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow", "t.jsonl"])
def test_formats_give_the_same_prompts(tmp_path: Path, name: str) -> None:
    source = Datasets(path=str(write(tmp_path / name)), columns=COLUMNS)
    found = list(source.prompts())
    assert [(p.messages[0].content, p.reference, p.meta) for p in found] == [
        ("2 + 2?", "4", {"level": 1}),
        ("3 * 3?", "9", {"level": 2}),
    ]
    assert source.fingerprint().keys() == {name}


def test_ids_are_those_of_jsonl_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "id": "x"}, {"prompt": "b", "id": None}, {"prompt": "b", "id": None}]
    table = Datasets(path=str(write(tmp_path / "t.parquet", rows)))
    lines = Jsonl(path=write(tmp_path / "t.jsonl", rows))
    assert [p.id for p in table.prompts()] == [p.id for p in lines.prompts()]


def test_saved_data_set_and_its_splits(tmp_path: Path) -> None:
    import datasets

    parts = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    source = Datasets(path=str(tmp_path / "saved"), split="test", columns=COLUMNS)
    assert [p.reference for p in source.prompts()] == ["4"]
    before = source.fingerprint()
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved" / "test"))
    assert source.fingerprint() != before


def test_folder_of_files_by_split(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.parquet", ROWS[:1])
    write(tmp_path / "train-00001-of-00002.parquet", ROWS[1:])
    write(tmp_path / "test-00000-of-00001.parquet", ROWS[:1])
    assert len(list(Datasets(path=str(tmp_path), columns=COLUMNS).prompts())) == 2
    assert len(list(Datasets(path=str(tmp_path), split="test", columns=COLUMNS).prompts())) == 1


def test_messages_with_a_last_answer(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "x": 1}
    ]
    path = str(write(tmp_path / "t.parquet", rows))
    with pytest.raises(DataError, match="shows it"):
        list(Datasets(path=path).prompts())
    (found,) = Datasets(path=path, last_answer="reference").prompts()
    assert (len(found.messages), found.reference) == (1, "hello")


def test_edited_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    stat = path.stat()
    source = Datasets(path=str(path), columns=COLUMNS)
    assert [p.reference for p in source.prompts()] == ["4", "9"]
    write(path, [{**row, "answer": str(9 - n)} for n, row in enumerate(ROWS)])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [p.reference for p in source.prompts()] == ["9", "8"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": {"prompt": "quest"}}, "no column 'quest', only 'question', 'answer', 'level'"),
        ({}, "neither 'prompt' nor 'messages'"),
        ({"columns": {"prompt": "level"}}, "'prompt' is a int"),
    ],
)
def test_rows_that_are_no_prompts_are_named(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    path = str(write(tmp_path / "t.parquet"))
    with pytest.raises(DataError, match=says) as error:
        list(Datasets(path=path, **options).prompts())
    assert error.value.line == 1


def test_what_json_can_not_hold_is_named_unless_left_out(tmp_path: Path) -> None:
    path = str(write(tmp_path / "t.parquet", [{**ROWS[0], "image": b"\xff"}]))
    with pytest.raises(DataError, match="column 'image' holds a bytes"):
        list(Datasets(path=path, columns=COLUMNS).prompts())
    (found,) = Datasets(path=path, columns=COLUMNS, keep=("level",)).prompts()
    assert found.meta == {"level": 1}


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1\x00\x00"])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match="can't read it"):
        list(Datasets(path=str(path), columns=COLUMNS).prompts())


def test_missing_and_mixed_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Datasets(path=str(tmp_path / "none.parquet")).fingerprint()
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.csv")
    with pytest.raises(DataError, match="several formats"):
        Datasets(path=str(tmp_path)).fingerprint()


def test_hub_data_sets_need_a_commit_and_are_not_fetched_to_plan() -> None:
    with pytest.raises(ValueError, match="must name a commit"):
        Datasets(path="org/data", revision="main")
    source = Datasets(path="org/data", revision="a" * 40)
    assert not source.here()
    assert source.fingerprint() == {"hub": f"org/data@{'a' * 40}"}

"""Labelled pairs from files, in each published form, and what is said about broken rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from itercli.data.base import DataError
from itercli.data.preferences import read_preferences
from itercli.engine.rows import read_rows
from itercli.engine.runs import all_runs
from itercli.records import PreferencePair
from tests.conftest import Project

USER = {"role": "user", "content": "Why?"}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PLAIN: dict[str, Any] = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
CONVERSATIONS = {"chosen": [USER, answer("Because.")], "rejected": [USER, answer("No.")]}
EXPLICIT = {"prompt": [USER], "chosen": [answer("Because.")], "rejected": [answer("No.")]}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("row", [PLAIN, CONVERSATIONS, EXPLICIT, PLAIN | {"prompt": [USER]}])
def test_each_form_is_the_same_pair(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read_preferences(written(tmp_path / "a.jsonl", row))
    assert [m.model_dump() for m in pair.messages] == [USER]
    assert (pair.chosen, pair.rejected, pair.prompt_id, pair.index) == ("Because.", "No.", "a/1", 0)
    assert (pair.sources, pair.origin, pair.rewards) == (("labelled", "labelled"), "labelled", None)


def test_scores_ids_and_numbers(tmp_path: Path) -> None:
    row = PLAIN | {"prompt_id": "x", "score_chosen": 8.5, "score_rejected": 3}
    pairs = list(read_preferences(written(tmp_path / "a.jsonl", row, PLAIN, row)))
    assert [p.key for p in pairs] == [("x", 0), ("a/2", 0), ("x", 1)]
    assert pairs[0].margin == 5.5


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([CONVERSATIONS] * 2), path)
    assert [p.chosen for p in read_preferences(path)] == ["Because."] * 2
    path.write_bytes(b"no")
    with pytest.raises(DataError, match="not Parquet"):
        list(read_preferences(path))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Why?", "chosen": "Because."}, "'rejected' is missing"),
        (PLAIN | {"chosen": 3}, "'chosen' is a int"),
        ({"chosen": "Because.", "rejected": "No."}, "'prompt' is neither text nor messages"),
        (CONVERSATIONS | {"rejected": [USER]}, "does not end with the assistant's turn"),
        (CONVERSATIONS | {"rejected": [{**USER, "content": "How?"}, answer("No.")]}, "different prompts"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=f"a.jsonl:2: .*{said}"):
        list(read_preferences(written(tmp_path / "a.jsonl", PLAIN, row)))


def test_missing_file(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(DataError, match="no such file"):
            list(read_preferences(tmp_path / name))


def test_as_a_stage(project: Project) -> None:
    path = written(project.path / "mine.jsonl", PLAIN, PLAIN, PLAIN)
    project.run_toy("iterations=0", f"++before.labelled={{uses: preferences, path: {path}, limit: 2}}")
    (run,) = all_runs(project.path / "runs")
    assert len(list(read_rows(run.path / "before/labelled/rows.parquet", PreferencePair))) == 2

"""Rows that JSON can't hold are refused by name, wherever rows are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from itercli.engine.encode import RowError, encode
from itercli.engine.journal import RowJournal
from itercli.engine.rows import write_rows
from itercli.records import PreferencePair, Score

NAN, INF = float("nan"), float("inf")


def score(value: float = 1.0, **fields: Any) -> Score:
    return Score(
        prompt_id="p", index=3, completion="NaN and Infinity", policy="policy@1", value=value, **fields
    )


@pytest.mark.parametrize(
    ("row", "place"),
    [
        (score(NAN), "value is nan"),
        (score(-INF), "value is -inf"),
        (score(meta={"a": {"b": [1.0, INF]}}), "meta.a.b.1 is inf"),
        (score(answer="half \ud83d of a pair"), "answer holds half a surrogate pair"),
        (score(meta={"a": object()}), "meta.a is a object"),
        (PreferencePair(prompt_id="p", index=3, messages=[], chosen="", rejected="", rewards=(1.0, NAN)),
         "rewards.1 is nan"),
    ],
)  # fmt: skip
def test_what_json_has_no_form_for_is_named(row: Score, place: str, tmp_path: Path) -> None:
    with pytest.raises(RowError, match=rf"{type(row).__name__} of prompt 'p', number 3: {place}"):
        encode(row)
    journal = RowJournal(tmp_path / "journal.jsonl", type(row))
    try:
        with pytest.raises(RowError, match=place):
            journal.append(row)
    finally:
        journal.close()
    assert (tmp_path / "journal.jsonl").read_bytes() == b""
    with pytest.raises(RowError, match=place):
        write_rows(tmp_path / "rows.parquet", type(row), [row])


def test_texts_that_speak_of_nan_are_no_fault() -> None:
    row = score(meta={"note": "NaN", "none": None})
    assert Score.model_validate_json(encode(row)) == row

"""Parquet rows: what is read is what was written, equal rows give equal bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itercli.engine.rows import read_rows, read_table, write_rows
from itercli.records import Message, Prompt, Score

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(), st.none() | st.text(), st.dictionaries(st.text(), json_values, max_size=3)),
        max_size=5,
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, items: list) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    rows = [
        Prompt(id=f"p{i}", messages=[Message(role="user", content=text)], reference=ref, meta=meta)
        for i, (text, ref, meta) in enumerate(items)
    ]
    assert write_rows(path, Prompt, rows) == len(rows)
    assert list(read_rows(path, Prompt)) == rows


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    row = Score(
        prompt_id="p",
        index=0,
        completion="c",
        policy="policy@0",
        value=0.1,
        passed=None,
        meta={"b": 1, "a": 2},
    )
    same = row.model_copy(update={"meta": {"a": 2, "b": 1}})
    write_rows(tmp_path / "a", Score, [row])
    write_rows(tmp_path / "b", Score, [same])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_columns_are_typed_and_nested_values_are_json(tmp_path: Path) -> None:
    row = Score(
        prompt_id="p", index=3, completion="c", policy="policy@0", value=0.5, passed=True, meta={"a": [1]}
    )
    write_rows(tmp_path / "r", Score, [row])
    (raw,) = read_table(tmp_path / "r")
    assert raw["index"] == 3
    assert raw["passed"] is True
    assert raw["meta"] == '{"a": [1]}'

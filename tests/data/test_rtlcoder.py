"""RTLCoder's file format, on rows written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from itercli.data.base import DataError
from itercli.data.rtlcoder import RtlCoder

HEADER = "module inverter (input a, output b);\n"
GOOD = HEADER + "assign b = ~a;\nendmodule\n"


def row(**change: Any) -> dict[str, Any]:
    return {"Instruction": "Design an inverter.", "Input": HEADER, "Response": [GOOD], **change}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_unscored(tmp_path: Path) -> None:
    source = RtlCoder(path=write(tmp_path / "data.json", row(), row(Input="")))
    first, second = source.prompts()
    assert (first.id, second.id) == ("rtlcoder/0", "rtlcoder/1")
    assert first.messages[0].content == f"Design an inverter.\n{HEADER}"
    assert first.reference == GOOD
    assert first.meta == {"suite": "rtlcoder", "task": "0", "header": HEADER, "top": "inverter"}
    assert second.messages[0].content == "Design an inverter."
    alone = next(RtlCoder(path=source.path, with_header=False).prompts())
    assert alone.messages[0].content == "Design an inverter."
    assert source.fingerprint().keys() == {"data.json"}


def test_scored(tmp_path: Path) -> None:
    scored = row(Response=["x", "y", GOOD], Score=[0.5, 0.01, 1])
    prompt = next(RtlCoder(path=write(tmp_path / "scored.jsonl", scored)).prompts())
    assert prompt.reference == GOOD
    assert prompt.meta["candidates"] == ["x", "y"]
    assert prompt.meta["scores"] == [0.5, 0.01]
    assert prompt.meta["reference_score"] == 1


def test_array_and_window(tmp_path: Path) -> None:
    path = tmp_path / "array.json"
    path.write_text(json.dumps([row(Instruction=str(i)) for i in range(5)], indent=1))
    prompts = list(RtlCoder(path=path, offset=1, limit=2, with_header=False).prompts())
    assert [(p.id, p.messages[0].content) for p in prompts] == [("rtlcoder/1", "1"), ("rtlcoder/2", "2")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Response": []}, "'Response' is missing, empty"),
        ({"Response": [1]}, "not a list of texts"),
        ({"Response": ["a", "b"]}, "2 responses without 'Score'"),
        ({"Response": ["a", "b"], "Score": [1]}, "'Score' does not fit 2"),
        ({"Response": ["a", "b"], "Score": ["1", "2"]}, "'Score' does not fit"),
        ({"Instruction": None}, "'Instruction' is a NoneType"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "bad.jsonl", row(), row(**change))
    with pytest.raises(DataError, match=message) as caught:
        list(RtlCoder(path=path).prompts())
    assert caught.value.line == 2
    assert str(path) in str(caught.value)

"""LonGen's file format: the published sample, and rows written here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.data.base import DataError
from itercli.data.longgen import LonGen


def row(**change: Any) -> dict[str, Any]:
    rest = {"constraint": "around 3000 words", "query": "Write about tea in 3000 words."}
    return {"language": "en", "range": "2-4k", "type": "about", **rest, **change}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def test_published_sample(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("self_lengthen") / "LonGen_24.jsonl"
    prompts = list(LonGen(path=path).prompts())
    cells = Counter((p.meta["language"], p.meta["type"], p.meta["range"]) for p in prompts)
    assert len(cells) == len(prompts) == 24
    for p in prompts:
        limit, bucket = p.meta["length"], p.meta["range"]
        low, high = (int(n) * 1000 for n in bucket.removesuffix("k").split("-"))
        given = [limit[k] for k in ("low", "high", "n") if limit[k] is not None]
        assert len(given) == (2 if limit["kind"] == "range" else 1)
        assert all(low <= n <= high for n in given)
        assert limit["kind"] == p.meta["type"]
    chinese = list(LonGen(path=path, language="zh", type="below").prompts())
    assert {p.id for p in chinese} < {p.id for p in prompts}
    assert [p.meta["length"]["n"] for p in chinese] == [4000, 5000, 8000]


def test_the_field_counts_not_the_query(tmp_path: Path) -> None:
    query = "Summarise the plot in about 150 words."
    first, second, third = LonGen(
        path=write(
            tmp_path / "x.jsonl",
            row(query=query),
            row(language="zh", type="range", constraint="2500字至3500字", query="写两千五到三千五字"),
            row(type="above", constraint="more than 6000 words"),
        )
    ).prompts()
    assert first.messages[0].content == query
    assert first.meta["length"] == {"kind": "about", "low": None, "high": None, "n": 3000}
    assert second.meta["length"] == {"kind": "range", "low": 2500, "high": 3500, "n": None}
    assert third.meta["length"] == {"kind": "above", "low": None, "high": None, "n": 6000}


def test_ids_stay_when_only_some_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", *(row(language=lang) for lang in ("en", "zh") * 3))
    assert [p.id for p in LonGen(path=path, language="zh", offset=1, limit=1).prompts()] == ["longgen/3"]
    assert LonGen(path=path).fingerprint().keys() == {"x.jsonl"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "fr"}, "'language' is 'fr'. Expected one of en, zh"),
        ({"type": "exactly"}, "'type' is 'exactly'. Expected one of about, range, above, below"),
        ({"query": None}, "'query' is a NoneType"),
        ({"constraint": "around three thousand words"}, "must hold one number in digits. Give one length"),
        ({"type": "range", "constraint": "3500-2500 words"}, "Give two lengths, the smaller first"),
        ({"type": "range"}, "must hold two numbers"),
        ({"constraint": "0 words"}, "greater than or equal to 1"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "bad.jsonl", row(), row(**change))
    with pytest.raises(DataError, match=message) as caught:
        list(LonGen(path=path).prompts())
    assert str(caught.value).startswith(f"{path}:2: ")

"""LongBench-Write's file format: the published files, and rows written here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.data.base import DataError
from itercli.data.longbench_write import LongBenchWrite


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def about(words: int) -> dict[str, Any]:
    return {"kind": "about", "n": words, "low": None, "high": None}


def test_published_files(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("self_lengthen")
    prompts = list(LongBenchWrite(path=folder / "longbench_write.jsonl").prompts())
    assert len(prompts) == 120
    assert len({p.meta["type"] for p in prompts}) == 7
    assert all(p.meta["length"] == about(p.meta["required"]) for p in prompts)
    assert (min(p.meta["required"] for p in prompts), max(p.meta["required"] for p in prompts)) == (
        100,
        20000,
    )
    # As in the LongWriter paper's table of the benchmark.
    assert Counter(p.meta["range"] for p in prompts) == {"0-500": 26, "500-2k": 36, "2-4k": 31, "4k+": 27}
    assert Counter(p.meta["language"] for p in prompts) == {"en": 60, "zh": 60}
    assert len(list(LongBenchWrite(path=folder / "longbench_write_en.jsonl").prompts())) == 60


def test_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.jsonl",
        {"prompt": "Write a 300-word note on 郭沫若.", "type": "News Report", "length": 500},
        {"prompt": "写一篇关于 AI 的文章，字数 800", "type": "Popular Science", "length": 800},
        {"prompt": "Write a 20000-word novel.", "length": 30000},
    )
    one, two, ruler = LongBenchWrite(path=path).prompts()
    assert one.id == "longbench_write/0"
    expected = {"language": "en", "type": "News Report", "required": 500, "range": "500-2k"}
    assert one.meta == {**expected, "length": about(500)}
    assert two.meta["language"] == "zh"
    assert (ruler.meta["type"], ruler.meta["length"]["n"]) == ("", 30000)
    assert [p.id for p in LongBenchWrite(path=path, language="zh", limit=5).prompts()] == [
        "longbench_write/1"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": None}, "'length' is None. Give the required length in words"),
        ({"length": "300"}, "'length' is '300'"),
        ({"length": 0}, "'length' is 0"),
        ({"length": True}, "'length' is True"),
        ({"prompt": 3}, "'prompt' is a int"),
        ({"type": []}, "'type' is a list"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good = {"prompt": "Write.", "type": "News Report", "length": 300}
    path = write(tmp_path / "bad.jsonl", good, {**good, **change})
    with pytest.raises(DataError, match=message) as caught:
        list(LongBenchWrite(path=path).prompts())
    assert str(caught.value).startswith(f"{path}:2: ")
    with pytest.raises(DataError, match="no 'length'"):
        list(LongBenchWrite(path=write(path, {"prompt": "Write."})).prompts())

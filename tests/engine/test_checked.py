"""Records with checksums: what was changed in them is noticed, what is old is read."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from itercli.engine import checked
from itercli.engine.checked import Damaged, Lines, append_line, read_document, write_document
from itercli.engine.files import write_json
from itercli.engine.shapes import MetricLine, RunInfo

VALUE = {"state": "finished", "seconds": 12.5, "name": "größe", "nodes": {}, "n": [1, None, True, 1e-9]}
LINE = {"time": "t", "node": "n", "iteration": 1, "stage": "s", "key": "k", "metrics": {"loss": 0.5, "µ": 1}}


@pytest.fixture(autouse=True)
def _untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "_told", set())


def changes(data: bytes, count: int, seed: int) -> list[bytes]:
    """The data with bytes flipped, cut out and inserted."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        at, length = rng.randrange(len(data)), rng.randrange(1, 40)
        new = rng.choice(
            [
                data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
                data[:at] + data[at + length :],
                data[:at] + rng.randbytes(length) + data[at:],
                data[:at],
            ]
        )
        found += [new] if new != data else []
    return found


@pytest.mark.parametrize("seed", range(10))
def test_a_changed_document_is_damaged_or_says_the_same(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "x.json"
    write_document(path, VALUE)
    assert read_document(path) == VALUE
    caught = 0
    for data in changes(path.read_bytes(), 100, seed):
        path.write_bytes(data)
        try:
            found = read_document(path)
        except Damaged:
            caught += 1
        else:  # white space, or the name of the checksum itself
            assert found is not None
            assert VALUE.items() >= {k: v for k, v in found.items() if k in VALUE}.items()
    assert caught > 50


@pytest.mark.parametrize("seed", range(10))
def test_a_changed_line_is_passed_over_or_says_the_same(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "x.jsonl"
    written = [{**LINE, "iteration": i} for i in range(4)]
    for line in written:
        append_line(path, line)
    assert list(Lines(path, MetricLine, "time")) == written
    for data in changes(path.read_bytes(), 100, seed):
        path.write_bytes(data)
        assert all(line in written for line in Lines(path, MetricLine, "time"))


ODD = {
    "not UTF-8": b'{"time": "\xff"}\n',
    "no object": b"12\n",
    "a list": b"[]\n",
    "NULs": b"\0" * 50 + b"\n",
    "deep": b'{"time": ' + b"[" * 100_000 + b"\n",
    "a long number": b'{"time": ' + b"1" * 10_000 + b"}\n",
    "another shape": b'{"time": "t", "node": 5}\n',
    "empty": b"\n",
    "half a character": b'{"time": "\xc3\n',
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_line_is_passed_over_and_told_once(
    tmp_path: Path, odd: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.jsonl"
    append_line(path, LINE)
    with open(path, "ab") as handle:
        handle.write(odd)
    append_line(path, LINE)
    lines = Lines(path, MetricLine, "time")
    assert list(lines) == [LINE, LINE]
    assert lines.damaged == [2]
    assert list(lines) == [LINE, LINE]
    assert [r.getMessage() for r in caplog.records] == [f"note: {path}: damaged and passed over: line 2"]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_document_is_damaged(tmp_path: Path, odd: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(odd.replace(b'"time"', b'"nodes"'))
    with pytest.raises(Damaged, match=r"x\.json is damaged"):
        read_document(path, RunInfo)


def test_damaged_lines_are_moved_out_by_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append_line(path, LINE)
    with open(path, "ab") as handle:
        handle.write(ODD["NULs"] + b'{"time": "torn')
    lines = Lines(path, MetricLine, "time")
    assert lines.repair() == 2
    assert lines.repair() == 0
    assert list(lines) == [LINE]
    assert (tmp_path / "x.jsonl.damaged").read_bytes() == ODD["NULs"] + b'{"time": "torn'


def test_a_torn_line_is_not_glued_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append_line(path, LINE)
    with open(path, "r+b") as handle:
        handle.truncate(path.stat().st_size - 10)
    append_line(path, LINE)
    assert list(Lines(path, MetricLine, "time")) == [LINE]


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write: Callable[[int, bytes], int] = os.write
    monkeypatch.setattr(checked.os, "write", lambda handle, data: write(handle, data[:7]))
    append_line(tmp_path / "x", LINE)
    assert list(Lines(tmp_path / "x", MetricLine, "time")) == [LINE]


def test_records_of_older_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(LINE) + "\n")
    append_line(tmp_path / "x.jsonl", LINE)
    assert list(Lines(tmp_path / "x.jsonl", MetricLine, "time")) == [LINE, LINE]
    old: dict[str, Any] = {"state": "finished", "nodes": {}, "seconds": 3}
    write_json(tmp_path / "x.json", old)
    assert read_document(tmp_path / "x.json", RunInfo) == old
    write_json(tmp_path / "x.json", {**old, "seconds": "3"})
    with pytest.raises(Damaged, match="seconds: Input should be a valid number"):
        read_document(tmp_path / "x.json", RunInfo)

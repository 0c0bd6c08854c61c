"""Source `jsonl` and what all sources share."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from itercli.data.base import DataError, hash_files
from itercli.data.sources import Jsonl
from itercli.records import Message


def lines(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_rows(tmp_path: Path) -> None:
    path = lines(
        tmp_path,
        '\ufeff{"prompt": "One\u2028line", "reference": "1", "level": 3, "meta": {"bench": "b"}}',
        "",
        '{"id": 7, "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]}',
    )
    first, second = Jsonl(path=path).prompts()
    assert (first.id, first.reference, first.meta) == ("own/0", "1", {"level": 3, "bench": "b"})
    assert first.messages == [Message(role="user", content="One\u2028line")]
    assert second.id == "7"
    assert [m.role for m in second.messages] == ["system", "user"]
    assert [p.id for p in Jsonl(path=path, offset=1).prompts()] == ["7"]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(tmp_path, '{"prompt": "x"}')
    monkeypatch.chdir(tmp_path)
    assert [p.id for p in Jsonl(path=Path("own.jsonl")).prompts()] == ["own/0"]


def test_key_follows_the_content_not_the_place(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
        lines(folder, '{"prompt": "x"}')
    one, two = Jsonl(path=a / "own.jsonl"), Jsonl(path=b / "own.jsonl")
    assert one.key_params() == two.key_params()
    assert one.fingerprint() == two.fingerprint()
    lines(b, '{"prompt": "y"}')
    assert one.fingerprint() != two.fingerprint()
    assert len(hash_files([a / "own.jsonl", b / "own.jsonl"])) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "a JSON list"),
        ("{", "not JSON"),
        ("{}", "neither 'prompt' nor 'messages'"),
        ('{"prompt": "a", "messages": []}', "both"),
        ('{"prompt": 1}', "'prompt' is a int"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "role: Input should be"),
        ('{"messages": 3}', "messages"),
        ('{"prompt": "a", "reference": 5}', "reference: Input should be"),
        ('{"prompt": "a", "meta": 5}', "'meta' is a int"),
        ('{"id": "x", "prompt": "a"}', "is also on line 1"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = lines(tmp_path, '{"id": "x", "prompt": "a"}', text)
    with pytest.raises(DataError, match=message) as caught:
        list(Jsonl(path=path).prompts())
    assert caught.value.line == 2
    assert str(caught.value).startswith(f"{path}:2: ")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        Jsonl(path=tmp_path / "none").fingerprint()
    with pytest.raises(DataError, match="is a folder"):
        list(Jsonl(path=tmp_path).prompts())
    bad = tmp_path / "latin.jsonl"
    bad.write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        list(Jsonl(path=bad).prompts())

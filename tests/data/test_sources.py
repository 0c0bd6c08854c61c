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
    assert first.id.startswith("own/")
    assert (first.reference, first.meta) == ("1", {"level": 3, "bench": "b"})
    assert first.messages == [Message(role="user", content="One\u2028line")]
    assert second.id == "7"
    assert [m.role for m in second.messages] == ["system", "user"]
    assert [p.id for p in Jsonl(path=path, offset=1).prompts()] == ["7"]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(tmp_path, '{"prompt": "x"}')
    monkeypatch.chdir(tmp_path)
    assert [p.messages[0].content for p in Jsonl(path=Path("own.jsonl")).prompts()] == ["x"]


def test_rows_without_an_id_keep_theirs_when_others_go(tmp_path: Path) -> None:
    rows = [f'{{"prompt": "{text}", "id": null}}' for text in "abcab"]
    names = [p.id for p in Jsonl(path=lines(tmp_path, *rows)).prompts()]
    assert len(set(names)) == 5
    assert names[3:] == [f"{names[0]}-1", f"{names[1]}-1"]
    without = [p.id for p in Jsonl(path=lines(tmp_path, *rows[:2], *rows[3:])).prompts()]
    assert without == names[:2] + names[3:]
    # What isn't asked of the model is no part of the name: an edited reference keeps the samples.
    edited = Jsonl(path=lines(tmp_path, '{"prompt": "a", "reference": "new"}'))
    assert [p.id for p in edited.prompts()] == names[:1]


ANSWERED = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'


def test_messages_that_end_with_the_answer(tmp_path: Path) -> None:
    path = lines(tmp_path, ANSWERED)
    with pytest.raises(DataError, match=r"prompt shows it\. Take it out, or set `last_answer: reference`"):
        list(Jsonl(path=path).prompts())
    (prompt,) = Jsonl(path=path, last_answer="reference").prompts()
    assert ([m.content for m in prompt.messages], prompt.reference) == (["q"], "a")
    (prompt,) = Jsonl(path=path, last_answer="keep").prompts()
    assert ([m.content for m in prompt.messages], prompt.reference) == (["q", "a"], None)


def test_reading_goes_on_behind_an_error(tmp_path: Path) -> None:
    path = lines(tmp_path, "{", '{"prompt": "a"}', ANSWERED, "[1]", '{"prompt": "b"}')
    found = list(Jsonl(path=path).read())
    assert [e.line for e in found if isinstance(e, DataError)] == [1, 3, 4]
    assert [p.messages[0].content for p in found if not isinstance(p, DataError)] == ["a", "b"]


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
        ('{"prompt": "a", "meta": {"x": "\\udc00"}}', r"half a surrogate pair, \\udc00"),
        ('{"prompt": "\\ud83d and more"}', r"half a surrogate pair, \\ud83d"),
        ('{"prompt": "a", "weight": NaN}', "NaN or Infinity"),
        ('{"messages": []}', "'messages' is empty"),
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

"""Files of general data: by name or path, gzipped or not, broken ones named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from itercli.data.base import DataError
from itercli.data.general import SHIPPED, conversations_file, read_conversations

ROWS = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "é"}]}]


@pytest.mark.parametrize("name", ["chat.json", "chat.jsonl.gz"])
def test_gzipped_or_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    raw = json.dumps(ROWS if ".gz" not in name else ROWS[0], ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(raw) if ".gz" in name else raw)
    assert read_conversations(conversations_file(str(path))) == ROWS


@pytest.mark.parametrize("raw", [b"{}", gzip.compress(b"{}" * 99)[:-9], b"\x1f\x8b\x08\x00rubbish at all"])
def test_a_broken_archive_is_named(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "chat.jsonl.gz"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"chat\.jsonl\.gz: not gzip"):
        read_conversations(path)


def test_shipped_sets_by_name_and_all_else_by_path() -> None:
    assert conversations_file("textcraft-games") == SHIPPED["textcraft-games"]
    assert conversations_file("~/chat.json") == Path.home() / "chat.json"

"""Files behind a key: hashed once, seen when they are written to, read as what was hashed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from itercli import ledger
from itercli.ledger import Changed, file_sha256, read_bytes, watching

TICK = 0.02  # more than the clock needs by which files are stamped


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"one\n")
    time.sleep(TICK)
    return path


def test_the_hash_is_that_of_the_content(file: Path) -> None:
    assert file_sha256(file) == hashlib.sha256(b"one\n").hexdigest()
    file.write_bytes(b"two\n")
    assert file_sha256(file) == hashlib.sha256(b"two\n").hexdigest()


def test_a_settled_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "SETTLED_NS", -1)
    first = file_sha256(file)
    monkeypatch.setattr(ledger, "_hash", lambda path: pytest.fail("read again"))
    assert file_sha256(file) == first


def test_nothing_happened(file: Path) -> None:
    with watching() as watch:
        file_sha256(file)
    assert watch.changed() == ""


@pytest.mark.parametrize("settled", [True, False])
def test_an_edit_is_seen(file: Path, settled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if settled:
        monkeypatch.setattr(ledger, "SETTLED_NS", -1)
    with watching() as watch:
        file_sha256(file)
    file.write_bytes(b"two\n")
    assert watch.changed() == f"{file} was written to while the stage ran"


@pytest.mark.parametrize("times", [False, True])
def test_an_edit_that_was_put_back_is_seen(file: Path, times: bool) -> None:
    before = file.stat()
    with watching() as watch:
        file_sha256(file)
    file.write_bytes(b"two\n")
    file.write_bytes(b"one\n")
    if times:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watch.changed() == f"{file} was written to while the stage ran, and put back"


def test_another_file_in_its_place_is_seen(file: Path, tmp_path: Path) -> None:
    with watching() as watch:
        file_sha256(file)
    (tmp_path / "new").write_bytes(b"two\n")
    os.replace(tmp_path / "new", file)
    assert "was written to" in watch.changed()
    file.unlink()
    assert "can't be read any more" in watch.changed()


def test_other_rights_or_a_further_link_are_no_edit(file: Path, tmp_path: Path) -> None:
    with watching() as watch:
        file_sha256(file)
    file.chmod(0o600)
    assert watch.changed() == ""
    os.link(file, tmp_path / "link")
    assert watch.changed() == ""


def test_what_was_read_through_the_ledger_is_exact(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    with watching() as watch:
        file_sha256(Path(file.name))
        assert read_bytes(file) == b"one\n"
        file.write_bytes(b"two\n")
        assert watch.changed() == ""
        with pytest.raises(Changed, match=r"data.jsonl was edited while the stage ran"):
            read_bytes(file)


def test_what_another_process_hashed_is_believed_as_long_as_the_stamp_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "SETTLED_NS", -1)
    monkeypatch.setattr(ledger, "LARGE", 4)
    monkeypatch.setattr(ledger, "_known", {})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    digest = file_sha256(weights)
    told = {path: [list(stamp), found] for path, (stamp, found) in ledger.large_files().items()}
    assert list(told) == [str(weights)]
    ledger._known.clear()
    ledger.take_over(told)
    original = ledger._hash
    monkeypatch.setattr(ledger, "_hash", lambda path: pytest.fail("read again"))
    assert file_sha256(weights) == digest
    monkeypatch.setattr(ledger, "_hash", original)
    time.sleep(TICK)
    weights.write_bytes(b"others!")
    assert file_sha256(weights) != digest

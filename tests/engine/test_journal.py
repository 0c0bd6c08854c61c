"""Row journals: what is appended survives, what is torn is cut off."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itercli.engine.journal import RowJournal, count_rows, tail
from itercli.records import Score, Trajectory


def row(i: int, text: str = "x") -> Trajectory:
    return Trajectory(
        prompt_id=f"p{i}", index=0, seed=i, completion=text, finish="stop", tokens=1, policy="policy@0"
    )


def write(path: Path, count: int) -> None:
    journal = RowJournal(path, Trajectory)
    for i in range(count):
        journal.append(row(i))
    journal.close()


def test_rows_are_there_again_after_reopening(tmp_path: Path) -> None:
    write(tmp_path / "j", 3)
    journal = RowJournal(tmp_path / "j", Trajectory)
    assert journal.done.issuperset([("p0", 0), ("p1", 0), ("p2", 0)])
    assert list(journal.rows()) == [row(0), row(1), row(2)]
    journal.close()


def test_rows_are_on_disk_when_append_returns(tmp_path: Path) -> None:
    journal = RowJournal(tmp_path / "j", Trajectory)
    journal.append(row(0))
    assert (tmp_path / "j").read_bytes().endswith(b"\n")
    journal.close()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=600))
def test_torn_tail_is_cut_at_any_byte(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "j"
    write(path, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    kept = whole[: min(cut, len(whole))].count(b"\n")
    journal = RowJournal(path, Trajectory)
    assert len(journal.done) == kept
    for i in range(kept, 4):
        journal.append(row(i))
    journal.close()
    assert path.read_bytes() == whole


def test_damaged_line_in_the_middle_is_dropped_and_done_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * (len(lines[1]) - 1) + b"\n"  # what a power cut can leave
    path.write_bytes(b"".join(lines))
    journal = RowJournal(path, Trajectory)
    assert journal.repaired == 1
    assert [key in journal.done for key in (("p0", 0), ("p1", 0), ("p2", 0))] == [True, False, True]
    journal.close()


def test_a_changed_digit_in_a_row_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 3)
    path.write_bytes(path.read_bytes().replace(b'"seed":1', b'"seed":7'))
    assert count_rows(path) == 2
    journal = RowJournal(path, Trajectory)
    assert journal.repaired == 1
    assert list(journal.rows()) == [row(0), row(2)]
    journal.close()


def test_rows_of_older_versions_are_read_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("".join(row(i).model_dump_json() + "\n" for i in range(2)))
    journal = RowJournal(path, Trajectory)
    assert journal.repaired == 0
    journal.append(row(2))
    assert list(journal.rows()) == [row(0), row(1), row(2)]
    journal.close()


def test_rows_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 5)
    journal = RowJournal(path, Trajectory)
    assert list(journal.ordered(lambda r: -r.seed)) == [row(i) for i in (4, 3, 2, 1, 0)]
    journal.close()


def test_a_failed_sync_is_an_error_of_the_next_row_and_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Semaphore(0)

    def broken(handle: int) -> None:
        tried.release()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("itercli.engine.journal.SYNC_SECONDS", 0.02)
    journal = RowJournal(tmp_path / "j", Trajectory)
    monkeypatch.setattr("itercli.engine.journal.os.fsync", broken)
    journal.append(row(0))
    for _ in range(3):  # it goes on trying
        assert tried.acquire(timeout=30)
    with pytest.raises(OSError, match=r"can't be synced to the disk \(Input/output error\).*Check the disk"):
        journal.append(row(1))
    with pytest.raises(OSError, match="can't be synced"):
        journal.close()
    monkeypatch.undo()
    again = RowJournal(tmp_path / "j", Trajectory)
    assert list(again.rows()) == [row(0)]
    again.close()


def test_lines_of_another_record_do_not_count(tmp_path: Path) -> None:
    write(tmp_path / "j", 2)
    journal = RowJournal(tmp_path / "j", Score)
    assert journal.repaired == 2
    journal.close()


def test_appending_a_row_twice_is_an_error(tmp_path: Path) -> None:
    journal = RowJournal(tmp_path / "j", Trajectory)
    journal.append(row(0))
    with pytest.raises(ValueError, match="twice"):
        journal.append(row(0))
    journal.close()


def test_full_disk_says_what_to_do(tmp_path: Path) -> None:
    journal = RowJournal(tmp_path / "j", Trajectory)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._handle)
    with pytest.raises(OSError, match=r"no space left.*free some space"):
        journal.append(row(0))
    os.close(full)
    assert len(journal.done) == 0


def test_tail_reads_only_complete_lines(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 2)
    with open(path, "ab") as handle:
        handle.write(b'{"prompt_id": "p2"')
    *rows, offset = tail(path, Trajectory)
    assert rows == [row(0), row(1)]
    assert isinstance(offset, int)
    assert offset < path.stat().st_size

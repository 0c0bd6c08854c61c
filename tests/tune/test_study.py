"""A study's folder: who is at which trial, draws that repeat, a torn journal."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from itercli.engine.checked import Damaged, unseal
from itercli.tune.space import suggest
from itercli.tune.spec import TuneSpec
from itercli.tune.study import FOLDER, JOURNAL, NoOptuna, Study, open_named

SPEC = TuneSpec.model_validate({"space": {"x": {"low": 0.0, "high": 1.0}, "y": ["a", "b"]}, "metric": "e.m"})


def study(root: Path, name: str = "s-1") -> Study:
    return Study(root / FOLDER / name, SPEC)


def draw(root: Path, total: int, value: float | None = 1.0) -> tuple[int, dict[str, object]] | None:
    """Number and point of the next trial, told as finished unless the value is None."""
    opened = study(root)
    with opened.next_trial(total) as trial:
        if trial is None:
            return None
        found = suggest(trial, SPEC.space)
        if value is not None:
            opened.optuna.tell(trial, value)
        return trial.number, found


def test_draws_do_not_depend_on_interruptions(tmp_path: Path) -> None:
    whole = [draw(tmp_path / "a", 3) for _ in range(4)]
    assert [t and t[0] for t in whole] == [0, 1, 2, None]
    cut = []
    for _ in range(3):
        assert draw(tmp_path / "b", 3, value=None) == draw(tmp_path / "b", 3, value=None), "it goes on"
        cut.append(draw(tmp_path / "b", 3))
    assert cut == whole[:3]
    assert len({t[1]["x"] for t in cut if t}) == 3


def test_a_trial_is_in_one_process_hands(tmp_path: Path) -> None:
    one, other = study(tmp_path), study(tmp_path)
    with one.next_trial(2) as first, other.next_trial(2) as second:
        assert first is not None
        assert second is not None
        assert (first.number, second.number) == (0, 1)
        assert one.held(1)
        with other.next_trial(2) as third:
            assert third is None
    assert not one.held(1)


def test_a_torn_journal_is_mended(tmp_path: Path) -> None:
    draw(tmp_path, 1)
    journal = study(tmp_path).path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    assert len(study(tmp_path).trials()) == 1
    draw(tmp_path, 2)
    assert len(study(tmp_path).trials()) == 2
    assert journal.read_bytes().startswith(whole)
    assert b"wor{" not in journal.read_bytes()


def test_a_changed_value_in_the_journal_is_noticed(tmp_path: Path) -> None:
    draw(tmp_path, 1, value=0.25)
    journal = study(tmp_path).path / JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b"0.25", b"0.75"))
    with pytest.raises(Damaged, match=r"journal\.log is damaged: line \d+: it does not match its checksum"):
        study(tmp_path)


def test_a_journal_that_optuna_wrote_is_gone_on_with(tmp_path: Path) -> None:
    draw(tmp_path, 1)
    journal = study(tmp_path).path / JOURNAL
    old = b"".join(unseal(line) + b"\n" for line in journal.read_bytes().splitlines(keepends=True))
    journal.write_bytes(old)
    draw(tmp_path, 2)
    backend = JournalFileBackend(str(journal))  # what optuna-dashboard reads with
    assert len(optuna.load_study(study_name="s-1", storage=JournalStorage(backend)).trials) == 2


def test_a_study_is_found_by_its_beginning(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="iter tune recipe=NAME"):
        open_named(tmp_path, None)
    for name in ("s-1", "s-2"):
        study(tmp_path, name).describe(spec=SPEC.model_dump(mode="json"))
    assert open_named(tmp_path, "s-1").spec == SPEC
    with pytest.raises(LookupError, match="2 studies begin with 's'"):
        open_named(tmp_path, "s")
    with pytest.raises(LookupError, match="Did you mean s-2"):
        open_named(tmp_path, "t-2")


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(NoOptuna, match=r"pip install 'itercli\[tune\]'"):
        study(tmp_path)
    assert not (tmp_path / FOLDER).exists()

"""Locks: looking whether one is held doesn't keep it from those who want it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from itercli.engine import files
from itercli.engine.files import Locked, is_held, lock


def test_somebody_who_looks_does_not_keep_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".lock"
    looking = os.open(path, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)  # as `is_held` of another process does
    monkeypatch.setattr(files.time, "sleep", lambda seconds: os.close(looking))
    with lock(path, "me"):
        assert is_held(path)
        assert path.read_text() == "me"


def test_a_lock_that_is_held_is_refused_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with lock(path, "process 7"):
        assert is_held(path)
        with pytest.raises(Locked, match="process 7"), lock(path, "me"):
            pass
    assert not is_held(path)

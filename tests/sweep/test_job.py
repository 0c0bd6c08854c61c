"""What one point's job gives its process."""

from __future__ import annotations

from pathlib import Path

import pytest

from itercli.sweep import job
from itercli.sweep.job import _own_gpu


def test_points_at_the_same_time_get_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "gpu_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    with _own_gpu(tmp_path) as first, _own_gpu(tmp_path) as second, _own_gpu(tmp_path) as third:
        assert (first, second) == ({"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "6"})
        assert third == {}
    with _own_gpu(tmp_path) as again:
        assert again == first


def test_a_single_gpu_is_everybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "gpu_count", lambda: 1)
    with _own_gpu(tmp_path) as env:
        assert env == {}

"""The worker's side of a stage."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from itercli.engine import context
from itercli.engine.context import Context
from itercli.engine.store import Entry


def make_context(path: Path, sent: list[dict[str, Any]]) -> Context:
    return Context(
        name="x",
        iteration=1,
        seed=0,
        entry=Entry(path, "scores", "key"),
        inputs={},
        models={},
        shared={},
        stop=threading.Event(),
        send=sent.append,
    )


def test_stage_that_asks_whether_to_stop_is_heard_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    ctx = make_context(tmp_path, sent)
    ctx.progress(0, 9, "rows")
    assert not ctx.stopping()
    assert [m["t"] for m in sent] == ["progress"]  # heard of just now
    ctx.progress(1, 9, "rows")  # too soon: kept back
    monkeypatch.setattr(context, "ALIVE_SECONDS", -1.0)
    ctx.stopping()
    ctx.stopping()
    assert [(m["t"], m.get("done")) for m in sent] == [("progress", 0), ("progress", 1), ("alive", None)]

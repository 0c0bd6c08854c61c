"""A follower, in this process: retries, positions, ends."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from itercli import registry
from itercli.tracking.follower import Follower
from itercli.tracking.position import Position
from tests.tracking.conftest import FakeRun
from tests.tracking.plugin import Raises, Record, RecordSink


@pytest.fixture
def ended() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def record(fake: FakeRun) -> list[dict[str, Any]]:
    path: Path = fake.run.path / "tracking" / "record.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_state_and_identity_over_attempts(fake: FakeRun, ended: threading.Event) -> None:
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"loss": 0.5})
    fake.save("interrupted")
    assert Follower(fake.run, Record()).follow(ended)
    fake.stage("iteration-02/evaluate", 2, "metrics", "k2", {"loss": 0.4})
    fake.save("finished")
    assert Follower(fake.run, Record()).follow(ended)
    assert Follower(fake.run, Record()).follow(ended)  # nothing new: not even opened
    lines = record(fake)
    assert [line["at"] for line in lines if "at" in line] == [1, 2]
    assert [line["closed"] for line in lines if "closed" in line] == ["interrupted", "finished"]
    opened = [line["opened"] for line in lines if "opened" in line]
    assert len(opened) == 2
    assert opened[0] == opened[1]
    assert Position.load(fake.run, "record").memory == {"opened": 2}


def test_a_dead_run_is_told_as_died(fake: FakeRun, ended: threading.Event) -> None:
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"loss": 0.5})
    Follower(fake.run, Record()).follow(ended)  # run.json says running, and nobody holds the run
    assert record(fake)[-1]["closed"] == "died"


def test_an_error_is_kept_and_gone_after_the_next_success(
    fake: FakeRun, ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"a": 1})
    fake.stage("iteration-02/evaluate", 2, "metrics", "k2", {"a": 2})
    log, calls = RecordSink.log, []

    def flaky(self: RecordSink, given: Any) -> None:
        calls.append(given)
        if len(calls) == 2:
            raise ConnectionError("\n gone\nsecond line")
        log(self, given)

    monkeypatch.setattr(RecordSink, "log", flaky)
    assert not Follower(fake.run, Record()).follow(ended)
    assert Position.load(fake.run, "record").error == "ConnectionError: gone"
    assert Follower(fake.run, Record()).follow(ended)
    assert Position.load(fake.run, "record").error == ""
    assert [line["at"] for line in record(fake) if "at" in line] == [1, 2]


def test_a_tracker_that_wants_to_exit_ends_nothing(fake: FakeRun, ended: threading.Event) -> None:
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"a": 1})
    assert not Follower(fake.run, Raises()).follow(ended)
    assert "SystemExit" in Position.load(fake.run, "raises").error


def test_the_plug_in_of_the_page_follows_a_run(fake: FakeRun, ended: threading.Event, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "tracking.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    plugin = tmp_path / "mine.py"
    plugin.write_text(code)
    registry.load_plugin(plugin)
    cls = registry.find("tracker", "mine")
    assert cls is not None
    fake.stage("iteration-01/evaluate", 1, "metrics", "k1", {"loss": 0.5})
    tracker = cls.model_validate({"path": str(tmp_path / "out")})
    assert Follower(fake.run, tracker).follow(ended)  # type: ignore[arg-type]
    assert (tmp_path / "out").read_text() == "1 {'evaluate/loss': 0.5}\n"

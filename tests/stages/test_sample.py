"""`sample`: prompts that leave no room are found before anything is sampled, and their fate is a choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from itercli.records import Generated, Message, Prompt, Trajectory, text_digest
from itercli.sampling.base import Request
from itercli.stages.base import StageError
from itercli.stages.sample import Sample
from tests.stages.bench import Bench, Fake, Killed, Slots, die

CONTEXT = 20
PROMPTS = [
    Prompt(id="short", messages=[Message(role="user", content="abc")]),
    Prompt(id="long", messages=[
        Message(role="system", content="sys"), Message(role="user", content="0123456789"),
        Message(role="assistant", content="ABCDEFGHIJ"), Message(role="user", content="klmnopqrst"),
    ]),
    Prompt(id="tight", messages=[Message(role="user", content="x" * 16)]),
    Prompt(id="last", messages=[Message(role="user", content="z")]),
]  # fmt: skip


class Measured(Slots):
    """A character is a token; eight are wanted."""

    def measure(self, messages: Sequence[Message]) -> tuple[int, int | None]:
        return sum(len(m.content) for m in messages), CONTEXT


def answer(request: Request) -> str | None:
    size = sum(len(m.content) for m in request.messages)
    return None if request.fit and size >= CONTEXT else "text"


def sample(bench: Bench, sampler: Slots, **options: Any) -> list[Trajectory]:
    stage = Sample(role="policy", prompts="tasks", n=2, max_new_tokens=8, sampler=Fake(), **options)
    return bench.stage(stage, sampler, Trajectory, prompts=PROMPTS)


def contents(sampler: Slots, prompt: str) -> list[tuple[str, str]]:
    asked = next(r for r in sampler.asked if r.key[0] == prompt)
    return [(m.role, m.content) for m in asked.messages]


def test_fail_says_so_before_the_first_is_sampled(tmp_path: Path) -> None:
    sampler = Measured()
    with pytest.raises(StageError) as caught:
        sample(Bench(tmp_path), sampler)
    assert "2 prompts exceed the model's context of 20 with max_new_tokens 8" in str(caught.value)
    assert "'long' (33 tokens)" in str(caught.value)
    assert "'tight' (16 tokens)" in str(caught.value)
    assert "`on_overlong`: drop, truncate_left or fit" in str(caught.value)
    assert sampler.asked == []


def test_drop_leaves_them_out_and_counts_them(tmp_path: Path) -> None:
    bench, sampler = Bench(tmp_path), Measured()
    rows = sample(bench, sampler, on_overlong="drop")
    assert [r.key for r in rows] == [("short", 0), ("short", 1), ("last", 0), ("last", 1)]
    assert bench.counts["overlong: prompts dropped"] == 2
    assert json.loads((bench.entry.path / "overlong.json").read_text()) == [
        {"prompt_id": "long", "tokens": 33}, {"prompt_id": "tight", "tokens": 16},
    ]  # fmt: skip


def test_truncate_left_keeps_the_end_and_the_system_message(tmp_path: Path) -> None:
    bench, sampler = Bench(tmp_path), Measured()
    rows = sample(bench, sampler, on_overlong="truncate_left")
    assert len(rows) == 8
    assert contents(sampler, "long") == [("system", "sys"), ("user", "lmnopqrst")]
    assert contents(sampler, "tight") == [("user", "x" * 12)]
    assert next(r for r in rows if r.prompt_id == "long").meta == {"prompt_tokens_cut": 21}
    assert bench.counts["overlong: prompt cut"] == 4


def test_fit_gives_what_room_there_is(tmp_path: Path) -> None:
    bench, sampler = Bench(tmp_path), Measured(answer=answer)
    rows = {r.key: r for r in sample(bench, sampler, on_overlong="fit")}
    assert len(rows) == 8
    assert (rows["long", 0].finish, rows["long", 0].completion) == ("error", "")
    assert (rows["tight", 0].finish, rows["tight", 0].meta) == ("stop", {"room": 4})
    assert (bench.counts["no answer"], bench.counts["overlong: fewer tokens"]) == (2, 2)
    (note,) = [m["fields"]["text"] for m in bench.messages if m.get("event") == "note"]
    assert note.startswith(
        "2 prompts given what room there is (1 have none and count as not answered), as they"
    )


def test_killed_and_gone_on_with_it_is_the_same(tmp_path: Path) -> None:
    whole, cut = Bench(tmp_path / "a"), Bench(tmp_path / "b")
    rows = sample(whole, Measured(), on_overlong="drop")
    with pytest.raises(Killed):
        sample(cut, Measured(after=die(2)), on_overlong="drop")
    assert sample(cut, Measured(), on_overlong="drop") == rows
    assert cut.counts == whole.counts


def test_the_default_leaves_keys_as_they_were() -> None:
    stage = Sample(role="policy", prompts="tasks", sampler=Fake())
    assert "on_overlong" not in stage.key_params()
    assert stage.model_copy(update={"on_overlong": "drop"}).key_params()["on_overlong"] == "drop"


class Telling(Slots):
    """Gives token ids for the first sample of each prompt, and says which prompts hold a control token."""

    def generate(self, requests: Any, stopping: Any) -> Any:
        for done in super().generate(requests, stopping):
            prompt, index = done.key
            kept = Generated(
                ids=[4, 2],
                ended=True,
                text=text_digest(done.text),
                vocabulary="v",
                reencodes=prompt != "short",
            )
            meta = {"control_text": True} if prompt == "last" else {}
            yield replace(done, generated=None if index else kept, meta=meta)


def test_rows_keep_their_token_ids_and_what_they_lack_is_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    rows = {row.key: row for row in sample(bench, Telling(), on_overlong="fit")}
    assert all((row.generated is None) == (key[1] == 1) for key, row in rows.items())
    assert all(row.generated.of(row.completion) for row in rows.values() if row.generated is not None)
    assert bench.counts["without token ids"] == len(rows) // 2
    assert bench.counts["differ when re-encoded"] == 1
    assert bench.counts["prompts with the text of a control token"] == 2

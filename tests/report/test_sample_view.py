"""What `iter samples` shows of texts that took several calls, and what `iter run` suggests to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from itercli.engine.journal import RowJournal
from itercli.engine.rows import write_rows
from itercli.engine.runner import Outcome
from itercli.engine.runs import Run
from itercli.engine.store import JOURNAL, ROWS
from itercli.records import Call, Message, Prompt, Record, Score, Trajectory
from itercli.report.sample_view import show_page
from itercli.report.samples import FIELDS, Page, Query, page
from itercli.report.tables import closing

PROMPT = Prompt(id="i1/00003", messages=[Message(role="user", content="Write about tides.")])


def step(a: str, b: str, taken: bool, *failed: str) -> dict[str, Any]:
    return {
        "half": "The sea", "a": a, "b": b, "words_before": 12, "words": 31, "ratio": 2.583,
        "failed": list(failed), "taken": taken,
    }  # fmt: skip


def extension(*steps: dict[str, Any], draft: str = "The sea rises.") -> Trajectory:
    meta = {"draft": draft, "draft_words": 12, "words": 31, "ratio": 2.583, "tries": 2, "steps": list(steps)}
    return Trajectory(
        prompt_id=PROMPT.id, index=1, seed=1, completion="The end.", finish="stop", tokens=9,
        policy="extender@1", meta=meta,
    )  # fmt: skip


def shown(row: Record, width: int = 80, lines: int | None = 40, **fields: Any) -> str:
    """The row as it stands on a terminal."""
    found = {
        **dict.fromkeys(FIELDS),
        **row.model_dump(),
        "prompt": [{"role": "user", "content": "?"}],
        **fields,
    }
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    show_page(
        console,
        Page("iteration-01/extend", "trajectories", 1, True, 1, 1, {}, [found]),
        "r",
        offset=0,
        lines=lines,
    )
    assert max(map(len, out.getvalue().splitlines())) <= width
    return out.getvalue()


def columns(text: str, above: str) -> list[str]:
    """The three texts of the table below a line, their lines joined again."""
    body = text[text.index(above) :].split("\n")[2:]
    end = next((n for n, line in enumerate(body) if "╵" in line), len(body))
    cells = [line.split("│") for line in body[:end] if line.count("│") == 2]
    return [" ".join(" ".join(row[i].strip() for row in cells).split()) for i in range(3)]


def test_draft_and_both_stages_stand_side_by_side() -> None:
    first = step("High water comes", " twice a day", False, "closing", "not_longer")
    second = step("The sea rises twice a day,\n\nsays the pilot.", " So do the boats.", True)
    text = shown(extension(first, second, step("And so", " on.", True)))
    assert "12 -> 31 words (x2.58), 2 tries" in text
    assert "step 1: 12 -> 31 words (x2.58), turned down: closing, not_longer" in text
    assert "step 2: 12 -> 31 words (x2.58), taken" in text
    headed = columns(text, "step 1:")
    assert headed == ["draft The sea rises.", "stage A High water comes", "stage B twice a day"]
    # A candidate that was turned down leaves the draft in place, one that was taken replaces it.
    assert columns(text, "step 2:")[0] == "draft The sea rises."
    assert columns(text, "step 3:") == [
        "text after step 2 The sea rises twice a day, says the pilot. So do the boats.",
        "stage A And so",
        "stage B on.",
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_columns_are_clipped_unless_all_is_wanted(width: int) -> None:
    long = "\n".join(f"line {n} of many" for n in range(300))
    row = extension(step(long, "word " * 2000, True), draft="")
    text = shown(row, width, lines=10)
    assert "line 9 of" in text
    assert "line 10 of" not in text
    assert "--full" in text
    assert len(text.splitlines()) < 80
    assert columns(text, "step 1:")[0] == "draft (nothing)"
    whole = shown(row, width, lines=None)
    assert "line 299" in whole
    assert whole.count("word") >= 2000
    assert "--full" not in whole


def test_what_models_wrote_is_not_interpreted() -> None:
    evil = "[red]x[/] [/no] \x1b[2J\x1b]0;t\x07"
    text = shown(extension(step(evil, evil, False, evil), draft=evil), width=160)
    assert "\x1b" not in text
    assert text.count("[red]x[/] [/no]") == 4
    assert "\x1b" not in shown(Trajectory(
        prompt_id="p", index=0, seed=1, completion="c", finish="stop", tokens=1, policy="p@0",
        meta={"error": evil},
    ))  # fmt: skip


@pytest.mark.parametrize(
    "meta",
    [
        {"draft": "A draft.", "steps": ["what", "else"], "tries": 3},
        {"draft": "A draft.", "steps": [{"a": "no b"}], "tries": 3},
        {"draft": None, "steps": [], "tries": 3},
        {"tries": 3, "woven": {"nested": True}},
    ],
)
def test_other_details_are_shown_compactly(meta: dict[str, Any]) -> None:
    text = shown(extension().model_copy(update={"meta": meta}))
    assert "tries 3" in text
    assert "stage A" not in text
    assert "nested" not in text


def test_measures_of_a_score_are_left_to_json() -> None:
    score = Score(prompt_id="p", index=0, completion="c", policy="p@0", value=1.5, meta={"rep_4": 0.25})
    assert "rep_4" not in shown(score)


# -- a run's rows -------------------------------------------------------------------------


class Rows:
    """A run folder with finished and unfinished stages, written by hand."""

    def __init__(self, path: Path) -> None:
        self.run = Run(path / "run-1")
        self.run.path.mkdir(parents=True)
        self.nodes: dict[str, Any] = {}

    def add(
        self, node: str, kind: str, rows: Sequence[Record], *, needs: Sequence[str] = (), done: bool = True
    ) -> None:
        entry = self.run.store.entry(kind, f"key{len(self.nodes)}")
        entry.path.mkdir(parents=True)
        if done:
            write_rows(entry.path / ROWS, type(rows[0]), iter(rows))
            entry.finish(
                ingredients={}, inputs={}, models={}, rows=len(rows), record=type(rows[0]).__name__,
                counts={}, metrics={}, seconds=1, work={},
            )  # fmt: skip
        else:
            journal = RowJournal(entry.path / JOURNAL, type(rows[0]))
            for row in rows:
                journal.append(row)
            journal.close()
        iteration = int(node.partition("/")[0].removeprefix("iteration-"))
        place = {"kind": kind, "key": entry.key, "uses": kind, "iteration": iteration, "needs": list(needs)}
        self.nodes[node] = place | {"models": {}}
        self.run.save({"nodes": self.nodes, "iterations": 1})


@pytest.fixture
def made(tmp_path: Path) -> Rows:
    rows = Rows(tmp_path)
    rows.add("iteration-01/propose", "prompts", [PROMPT])
    return rows


def test_json_carries_draft_and_steps(made: Rows) -> None:
    row = extension(step("A", "B", True))
    made.add("iteration-01/extend", "trajectories", [row], needs=["iteration-01/propose"])
    (sample,) = asdict(page(made.run, "iteration-01/extend", Query()))["samples"]
    assert sample["meta"] == row.meta
    assert sample["step"] is None
    assert sample["prompt"] == [{"role": "user", "content": "Write about tides."}]


def call(job: str, index: int, name: str) -> Call:
    return Call(
        prompt_id=job, index=index, seed=1, completion=f"Text of {name}.", finish="stop", tokens=4,
        policy="extender@1", step=name,
    )  # fmt: skip


def test_calls_of_a_stage_under_way_find_their_prompt(made: Rows) -> None:
    calls = [
        call("i1/00003#1.0", 0, "extend.a"),
        call("i1/00003#1.0", 1, "extend.b"),
        call("i1/00003", 0, "weave"),
    ]
    made.add("iteration-01/extend", "trajectories", calls, needs=["iteration-01/propose"], done=False)
    found = page(made.run, "iteration-01/extend", Query())
    assert [(s["step"], s["index"]) for s in found.samples] == [
        ("extend.a", 0),
        ("extend.b", 1),
        ("weave", 0),
    ]
    assert all(s["prompt"] == [{"role": "user", "content": "Write about tides."}] for s in found.samples)
    out = io.StringIO()
    show_page(Console(file=out, width=80), found, "run-1", offset=0)
    assert "3 calls" in out.getvalue()
    assert "i1/00003#1.0 call 1: extend.b" in out.getvalue()
    assert "not found" not in out.getvalue()


def test_only_calls_lose_what_follows_the_hash(made: Rows) -> None:
    row = extension().model_copy(update={"prompt_id": "i1/00003#1"})
    made.add("iteration-01/sample", "trajectories", [row], needs=["iteration-01/propose"])
    assert page(made.run, "iteration-01/sample", Query()).samples[0]["prompt"] is None


def test_a_call_that_invents_the_prompt_misses_none(made: Rows) -> None:
    text = shown(call("i1/00009", 0, "propose"), prompt=None)
    assert "i1/00009 call 0: propose" in text
    assert "not found" not in text
    assert "not found" in shown(extension(), prompt=None)


@pytest.mark.parametrize(
    ("verdicts", "suggested"),
    [
        ([True, False], "iter samples run-1 --iteration 1 --failed"),
        ([True, True], "iter samples run-1 --iteration 1"),
        ([None, None], "iter samples run-1 --iteration 1"),
        ([], "iter samples run-1 --iteration 1"),
    ],
)
def test_failed_rows_are_suggested_where_there_are_any(
    made: Rows, verdicts: list[bool | None], suggested: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if verdicts:
        scores = [
            Score(prompt_id=PROMPT.id, index=n, completion="c", policy="p@0", value=0, passed=passed)
            for n, passed in enumerate(verdicts)
        ]
        made.add("iteration-01/score", "scores", scores, needs=["iteration-01/propose"])
    closing(made.run, Outcome(ran=1))
    assert capsys.readouterr().out.splitlines()[-1].strip() == suggested


def test_a_run_without_rows_suggests_its_name_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Rows(tmp_path).run
    run.save({"nodes": {}, "iterations": 3})
    closing(run, Outcome(ran=1))
    assert capsys.readouterr().out.splitlines()[-1].strip() == "iter samples run-1"

"""`iter export --dataset`: rows of every kind load with `datasets` as they were written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from itercli.cli.main import main
from itercli.handover.dataset import export_rows
from itercli.handover.versions import HandoverError
from itercli.records import (
    Dialogue,
    Episode,
    Message,
    Node,
    PreferencePair,
    Prompt,
    RankedExample,
    Record,
    Score,
    Trajectory,
    Tree,
    Turn,
)
from tests.handover.made import MadeRun

ASK = Message(role="user", content="go <b>\x1b[2J | on")
TURN = Turn(text="look", action="look", observation="a room", info={"error": "none", "n": [1]})
ROWS: dict[str, Sequence[Record]] = {
    "prompts": [
        Prompt(id="p0", messages=[ASK], meta={"a": 1}), Prompt(id="p1", messages=[ASK], reference="r"),
    ],
    "trajectories": [
        Trajectory(
            prompt_id="p0", index=0, seed=2**63 - 1, completion="x", finish="stop", tokens=1, policy="p@0",
        ),
    ],
    "scores": [
        Score(prompt_id="p0", index=0, completion="x", policy="p@0", value=0.5, meta={"words": 3}),
        Score(prompt_id="p1", index=0, completion="x", policy="p@0", value=1.0, passed=True),
    ],
    "examples": [
        RankedExample(prompt_id="p0", messages=[ASK], responses=["a", "b"], scores=[0.0, 1.0], target=1)
    ],
    "pairs": [
        PreferencePair(prompt_id="p0", messages=[ASK], chosen="a", rejected="b"),
        PreferencePair(
            prompt_id="p0", index=1, messages=[ASK], chosen="a", rejected="b", rewards=(1.0, 0.0),
            probabilities=[(0.9, 0.1)], bald=0.1,
        ),
    ],
    "dialogues": [Dialogue(prompt_id="p0", messages=[ASK, ASK], loss=[False, True])],
    "episodes": [
        Episode(
            prompt_id="p0", index=0, seed=1, policy="p@0", opening=[ASK], turns=[TURN], score=1.0,
            finish="done",
        ),
        Episode(
            prompt_id="p1", index=0, seed=1, policy="p@0", opening=[ASK], turns=[], score=0.0, finish="error"
        ),
    ],
    "trees": [
        Tree(
            prompt_id="p0", seed=1, policy="p@0", opening=[ASK], simulations=2,
            nodes=[Node(id=0, parent=None), Node(id=1, parent=0, turn=TURN)],
        )
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    run = MadeRun(tmp_path_factory.mktemp("rows") / "runs", model=False)
    run.rows("before/prompts", "prompts", ROWS["prompts"])
    for kind in list(ROWS)[1:]:
        run.rows(f"iteration-01/{kind}", kind, ROWS[kind], needs=["before/prompts"], counts={"a|b": 2})
    run.rows("iteration-02/scores", "scores", ROWS["scores"], needs=["before/prompts"])
    return run


def loaded(folder: Path, cache: Path) -> list[dict[str, Any]]:
    from datasets import load_dataset

    return list(load_dataset(str(folder), split="train", cache_dir=str(cache)))


@pytest.mark.parametrize("kind", ROWS)
def test_rows_load_as_they_were_written(kind: str, made: MadeRun, tmp_path: Path) -> None:
    done = export_rows(made.run, kind, tmp_path / "out")
    rows = loaded(tmp_path / "out", tmp_path / "cache")
    written = [r.model_dump(mode="json") for r in ROWS[kind]]
    assert len(rows) == sum(done.nodes.values()) == len(written) * (2 if kind == "scores" else 1)
    for row, original in zip(rows, written, strict=False):
        row = {name: row[name] for name in original}
        for free in ("meta",):
            if free in row:
                row[free] = json.loads(row[free])
        for turn in [*(row.get("turns") or []), *(n["turn"] for n in row.get("nodes") or [] if n["turn"])]:
            turn["info"] = json.loads(turn["info"])
        assert row == original
    assert {row["iteration"] for row in rows} == ({1, 2} if kind == "scores" else {int(kind != "prompts")})


def test_answers_come_with_their_prompt(made: MadeRun, tmp_path: Path) -> None:
    export_rows(made.run, "scores", tmp_path / "out", iteration="2")
    rows = loaded(tmp_path / "out", tmp_path / "cache")
    assert [row["prompt"] for row in rows] == [[ASK.model_dump()]] * 2


def test_card_counts_and_escapes(made: MadeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "out"
    given = ["export", "made", "--dataset", "scores", "--to", str(to), "--runs", str(made.run.root), "--json"]
    assert main(given) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["dataset"]["nodes"] == {"iteration-01/scores": 2, "iteration-02/scores": 2}
    assert set(done["files"]) == {"README.md", "data/iteration-01.parquet", "data/iteration-02.parquet"}
    card = (to / "README.md").read_text()
    assert "| iteration-01/scores | 2 |  | 2 a\\|b |" in card
    assert "itercli.dataset/1" in card
    assert main([*given[:3], "scoers", *given[4:], "--force"]) == 1
    assert "Did you mean scores?" in capsys.readouterr().err


def test_iteration_that_the_stage_is_not_in(made: MadeRun, tmp_path: Path) -> None:
    with pytest.raises(HandoverError, match="not in iteration 2, but in 1"):
        export_rows(made.run, "pairs", tmp_path / "out", iteration="2")
    with pytest.raises(HandoverError, match="all, last or a number"):
        export_rows(made.run, "pairs", tmp_path / "out", iteration="best")

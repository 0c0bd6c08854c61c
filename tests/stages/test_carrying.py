"""Tokens and endings go with their text, and only with it."""

from __future__ import annotations

from itercli.engine.rows import read_rows, write_rows
from itercli.records import (
    Generated,
    Message,
    PreferencePair,
    RankedExample,
    Score,
    Trajectory,
    text_digest,
)
from itercli.stages.carrying import Texts, carried

ASK = [Message(role="user", content="?")]


def tokens(text: str, *ids: int, **options) -> Generated:
    return Generated(ids=list(ids), ended=True, text=text_digest(text), vocabulary="v", **options)


def drawn(index: int, text: str, finish: str = "stop", *ids: int) -> Trajectory:
    return Trajectory(
        prompt_id="p",
        index=index,
        seed=1,
        completion=text,
        finish=finish,
        tokens=3,
        policy="m@0",
        generated=tokens(text, *ids),
    )


def score(row: Trajectory, **changes) -> Score:
    fields = {"prompt_id": "p", "index": row.index, "completion": row.completion, "policy": "m@0", "value": 1}
    return Score(**fields | changes)


def test_a_score_takes_over_what_its_completion_was():
    row = drawn(0, "yes", "length", 4, 5)
    assert carried(score(row), row).generated == row.generated
    assert carried(score(row), row).finish == "length"
    other = carried(score(row, completion="yes!"), row)
    assert other.finish is None
    assert other.generated is None


def test_examples_and_pairs_find_their_texts():
    cut, whole, bad = drawn(0, "yes", "length", 4), drawn(1, "yes", "stop", 4, 9), drawn(2, "no", "length", 6)
    texts = Texts([cut, whole, bad])
    example = RankedExample(
        prompt_id="p", messages=ASK, responses=["no", "a reference", "yes"], scores=[0, 1, 1], target=1
    )
    found = texts.into(example)
    assert found.finish == ["length", None, "stop"]
    assert found.generated == [bad.generated, None, whole.generated], "of equal texts the one that ended"
    pair = texts.into(PreferencePair(prompt_id="p", messages=ASK, chosen="yes", rejected="a reference"))
    assert pair.finish == ("stop", None)
    assert pair.generated == (whole.generated, None)
    turned = pair.swapped()
    assert (turned.chosen, turned.finish, turned.generated) == (
        "a reference",
        (None, "stop"),
        (None, whole.generated),
    )
    other_prompt = example.model_copy(update={"prompt_id": "q"})
    assert texts.into(other_prompt) == other_prompt


def test_tokens_know_their_text():
    assert tokens("yes", 1).of("yes")
    assert not tokens("yes", 1).of("yes ")


def test_tokens_are_columns_of_integers(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    rows = [drawn(0, "yes", "stop", 4, 5), drawn(1, "no").model_copy(update={"generated": None})]
    rows[0] = rows[0].model_copy(update={"generated": tokens("yes", 4, 5, logprobs=[-0.1, -2.5])})
    write_rows(path, Trajectory, rows)
    assert list(read_rows(path, Trajectory)) == rows
    assert str(pq.read_schema(path).field("generated").type.field("ids").type) == "list<element: int32>"
    pairs = [
        PreferencePair(
            prompt_id="p",
            messages=ASK,
            chosen="a",
            rejected="b",
            finish=("stop", None),
            generated=(tokens("a", 7), None),
        )
    ]
    write_rows(path, PreferencePair, pairs)
    assert list(read_rows(path, PreferencePair)) == pairs


def test_rows_of_older_stores_are_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    old = {"prompt_id": ["p"], "index": [0], "completion": ["x"], "policy": ["m@0"], "value": [0.5]}
    pq.write_table(pa.table(old), path)
    (row,) = read_rows(path, Score)
    assert row.finish is None
    assert row.generated is None

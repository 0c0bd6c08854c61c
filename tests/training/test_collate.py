import numpy as np
import pytest
import torch

from itercli.models import models_dir
from itercli.records import Message, RankedExample
from itercli.training.collate import (
    Group,
    Row,
    encode_groups,
    length_buckets,
    micro_batches,
    pad_rows,
    plan_steps,
)
from itercli.training.methods import Ranking, Sft
from tests.training.tiny import example, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def test_end_of_turn_is_always_a_target(tokenizer):
    groups, _ = encode_groups(
        [example(i) for i in range(3)], tokenizer, max_length=500, needed=Ranking().needed
    )
    for group, wanted in zip(groups, (example(i) for i in range(3)), strict=True):
        batch = pad_rows(group.rows, torch.device("cpu"))
        for labels, response in zip(batch.labels, wanted.responses, strict=True):
            targets = labels[labels != -100].tolist()
            assert targets[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(targets[:-1]) == response


@pytest.fixture(scope="module")
def smollm2():
    folder = models_dir() / "smollm2-135m"
    if not folder.exists():
        pytest.skip("SmolLM2 is not here; `iter models pull smollm2-135m` fetches it")
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder)


LONG = "\n\n".join(f"Paragraph {n} says something of its own, and then some more." for n in range(60))


def article(i: int, response: str) -> RankedExample:
    question = [Message(role="user", content=f"Write article number {i}.")]
    return RankedExample(prompt_id=f"a{i}", messages=question, responses=[response], scores=[1.0], target=0)


def test_long_texts_keep_their_end_of_turn_with_a_real_chat_template(smollm2):
    texts = [LONG, "Short.", LONG + " ", "ends in a mark <|im_start|>"]
    examples = [article(i, text) for i, text in enumerate(texts)]
    groups, counts = encode_groups(examples, smollm2, max_length=4096, needed=Sft().needed)
    assert counts["dropped_too_long"] == 0
    batch = pad_rows([g.rows[0] for g in groups], torch.device("cpu"))
    for row, labels, text in zip((g.rows[0] for g in groups), batch.labels, texts, strict=True):
        targets = labels[labels != -100].tolist()
        assert smollm2.convert_ids_to_tokens(targets[-1]) == "<|im_end|>"
        assert smollm2.decode(targets[:-1]) == text  # the whole text, and nothing of the prompt
        assert smollm2.decode(row.ids[: row.prompt_len]).endswith("<|im_start|>assistant\n")


def test_what_is_too_long_by_one_token_is_dropped_and_counted(smollm2):
    examples = [article(0, "Short."), article(1, LONG), article(2, "Short, too.")]
    groups, _ = encode_groups(examples, smollm2, max_length=4096, needed=Sft().needed)
    exact = groups[1].length
    fits, counts = encode_groups(examples, smollm2, max_length=exact, needed=Sft().needed)
    assert [g.length for g in fits] == [g.length for g in groups]
    assert counts["dropped_too_long"] == counts["candidates_too_long"] == 0
    fewer, counts = encode_groups(examples, smollm2, max_length=exact - 1, needed=Sft().needed)
    assert [g.prompt_id for g in fewer] == ["a0", "a2"]
    assert [g.rows[0].ids.tolist() for g in fewer] == [groups[i].rows[0].ids.tolist() for i in (0, 2)]
    assert (counts["examples"], counts["dropped_too_long"], counts["candidates_too_long"]) == (3, 1, 1)


def test_padding_keeps_only_the_positions_that_predict_responses():
    rows = [Row(np.arange(10, 15), 3), Row(np.arange(20, 28), 4)]
    batch = pad_rows(rows, torch.device("cpu"))
    assert batch.input_ids.shape == (2, 8)
    assert batch.kept == 6
    assert batch.labels.tolist() == [[13, 14, -100, -100, -100, -100], [-100, 24, 25, 26, 27, -100]]
    assert batch.tokens == 13


def test_nothing_is_truncated(tokenizer):
    examples = [example(0), example(1, scores=[1.0]), example(3)]
    lengths = {e.prompt_id: [len(tokenizer(r).input_ids) for r in e.responses] for e in examples}
    groups, counts = encode_groups(examples, tokenizer, max_length=500, needed=Ranking().needed)
    assert counts["candidates_too_long"] == 0
    for group in groups:
        assert [row.response_len for row in group.rows] == [n + 1 for n in lengths[group.prompt_id]]
    # Too short for the target of the last example ("always @(posedge ...").
    limit = max(len(r.ids) for r in groups[2].rows) - 1
    fewer, counts = encode_groups(examples, tokenizer, max_length=limit, needed=Ranking().needed)
    assert all(len(r.ids) <= limit for g in fewer for r in g.rows)
    assert counts["candidates_too_long"] >= 1
    assert counts["examples"] == 3
    none, counts = encode_groups(examples, tokenizer, max_length=10, needed=Ranking().needed)
    assert not none
    assert counts["dropped_too_long"] == 3


def test_what_takes_part():
    ranking, sft = Ranking(), Sft()
    assert ranking.needed([0.0, 0.5, 1.0], 2) == [0, 1, 2]
    assert ranking.needed([0.0, 1.0], None) == [0, 1]
    # Nothing to rank: the ranking loss is exactly zero, so only the target is run.
    assert ranking.needed([1.0, 0.9, 1.0], 0) == [0]
    assert ranking.needed([1.0, 1.0], None) == "no_signal"
    assert ranking.needed([1.0], None) == "no_signal"
    assert Ranking(compare_weight=0).needed([0.0, 1.0], 1) == [1]
    assert Ranking(on_no_target="drop").needed([0.0, 1.0], None) == "no_target"
    assert sft.needed([0.0, 1.0], 0) == [0]
    assert sft.needed([0.0, 1.0], None) == "no_target"
    with pytest.raises(ValueError, match="on_no_target"):
        Sft(on_no_target="fail").needed([1.0], None)


def test_sft_keeps_the_target_only(tokenizer):
    groups, counts = encode_groups([example(0)], tokenizer, max_length=500, needed=Sft().needed)
    assert (len(groups[0].rows), groups[0].target, counts["candidates_not_needed"]) == (1, 0, 2)


def test_plan_covers_each_epoch_once():
    plan = plan_steps(10, batch_size=4, epochs=2, max_steps=None, seed=1)
    assert [len(step) for step in plan] == [4, 4, 2, 4, 4, 2]
    for epoch in (plan[:3], plan[3:]):
        assert sorted(i for step in epoch for i in step) == list(range(10))
    assert plan[:3] != plan[3:]
    assert plan == plan_steps(10, batch_size=4, epochs=2, max_steps=None, seed=1)
    assert plan != plan_steps(10, batch_size=4, epochs=2, max_steps=None, seed=2)


def test_plan_lengths():
    assert len(plan_steps(10, batch_size=4, epochs=0.5, max_steps=None, seed=1)) == 2
    assert len(plan_steps(10, batch_size=4, epochs=1, max_steps=7, seed=1)) == 7
    assert plan_steps(3, batch_size=16, epochs=1, max_steps=1, seed=1)[0] != []
    assert plan_steps(0, batch_size=4, epochs=1, max_steps=None, seed=1) == []


def test_micro_batches_hold_similar_lengths():
    groups = [Group(str(n), (Row(np.arange(n), 1),), (1.0,), 0) for n in (3, 9, 4, 8, 5)]
    cut = [[g.length for g in micro] for micro in micro_batches(groups, 2)]
    assert cut == [[9, 8], [5, 4], [3]]


def test_length_buckets():
    rows = [Row(np.arange(n), 1) for n in (10, 100, 90, 20, 80, 12)]
    assert length_buckets(rows, 0) == [[1, 2, 4], [3], [5, 0]]
    # Too few tokens for a pass of their own: padded along.
    assert length_buckets(rows, 1000) == [[1, 2, 4, 3, 5, 0]]
    assert length_buckets(rows, 30) == [[1, 2, 4], [3, 5], [0]]

"""Training on dialogues: ids of sampling, spans, masks, what is dropped, and resuming."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from itercli.records import Dialogue, Message, RankedExample
from itercli.sampling.prompting import encode_prompt
from itercli.training.arguments import training_arguments
from itercli.training.base import Interrupted, TrainingError, TrainingSpec
from itercli.training.checkpoints import Checkpoints
from itercli.training.dialogue import DialogueSft
from itercli.training.dialogues import encode_dialogues
from itercli.training.hf import StepTrainer
from itercli.training.losses import SftObjective
from itercli.training.methods import Sft
from tests.training.tiny import example, file_bytes, tiny_job, tiny_llama, tiny_ref, tiny_tokenizer

# Earlier answers lose what stands before "Action:", as templates do with thoughts.
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('Action:')[-1] if m['role'] == 'assistant' else m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def talk(i: int, *answers: tuple[str, bool]) -> Dialogue:
    """Questions with these answers, each learnt or not."""
    messages, loss = [], []
    for turn, (answer, learnt) in enumerate(answers):
        messages += [
            Message(role="user", content=f"{i}: turn {turn}?"),
            Message(role="assistant", content=answer),
        ]
        loss += [False, learnt]
    return Dialogue(prompt_id=f"d{i}", messages=messages, loss=loss)


TURNS = (
    ("Thought: a Action: go", True),
    ("Action: bad", False),
    ("Thought: b Action: wait", True),
    ("c", True),
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_ref(tmp_path_factory.mktemp("model") / "base")


def targets(tokenizer: Any, row: Any) -> list[str]:
    """The texts of a row's spans."""
    edges = [row.prompt_len, *(edge for gap in row.gaps for edge in gap), len(row.ids)]
    return [tokenizer.decode(row.ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def test_a_stable_template_gives_one_sequence_with_the_ids_of_sampling(tokenizer: Any) -> None:
    dialogue = talk(0, *TURNS)
    (group,), counts = encode_dialogues([dialogue], tokenizer, max_length=400)
    (row,) = group.rows
    learnt = ["Thought: a Action: go<|im_end|>", "Thought: b Action: wait<|im_end|>", "c<|im_end|>"]
    assert targets(tokenizer, row) == learnt
    starts = [row.prompt_len, *(end for _, end in row.gaps)]
    for start, i in zip(starts, (1, 5, 7), strict=True):
        assert row.ids[:start].tolist() == encode_prompt(tokenizer, dialogue.messages[:i])
    assert row.response_len == sum(len(tokenizer(text).input_ids) for text in learnt)
    assert (counts["learnt_turns"], counts["sequences"]) == (3, 1)


def test_a_template_that_rewrites_history_gives_a_sequence_for_each_turn() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = FORGETFUL
    dialogue = talk(0, *TURNS)
    (group,), counts = encode_dialogues([dialogue], tokenizer, max_length=400)
    assert [targets(tokenizer, row) for row in group.rows] == [
        ["Thought: a Action: go<|im_end|>"],
        ["Thought: b Action: wait<|im_end|>"],
        ["c<|im_end|>"],
    ]
    for row, i in zip(group.rows, (1, 5, 7), strict=True):
        assert row.ids[: row.prompt_len].tolist() == encode_prompt(tokenizer, dialogue.messages[:i])
    assert counts["sequences"] == 3


def gradient(tmp_path: Any, dialogues: list[Dialogue], template: str | None = None) -> tuple[float, Any]:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    groups, _ = encode_dialogues(dialogues, tokenizer, max_length=500)
    model = tiny_llama()
    trainer = StepTrainer(
        model,
        training_arguments(TrainingSpec(), steps=1, seed=0, folder=tmp_path),
        [groups],
        SftObjective(),
        micro_batch_size=2,
        checkpoints=Checkpoints(tmp_path, "job"),
    )
    return trainer.training_step(model, groups).item(), {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("template", [None, FORGETFUL], ids=["stable", "rewriting"])
def test_loss_is_the_mean_over_all_target_tokens(tmp_path: Any, template: str | None) -> None:
    dialogues = [
        talk(0, *TURNS),
        talk(1, ("Action: x", True)),
        talk(2, ("y", False), ("Action: longer", True)),
    ]
    loss, _ = gradient(tmp_path, dialogues, template)
    tokenizer, model = tiny_tokenizer(), tiny_llama()
    tokenizer.chat_template = template or tokenizer.chat_template
    total, tokens = 0.0, 0
    for dialogue in dialogues:
        for i, learnt in enumerate(dialogue.loss):
            if learnt:
                prompt = encode_prompt(tokenizer, dialogue.messages[:i])
                answer = tokenizer(dialogue.messages[i].content + "<|im_end|>").input_ids
                logits = (
                    model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                )
                total -= logits.gather(1, torch.tensor(answer)[:, None]).sum().item()
                tokens += len(answer)
    assert loss == pytest.approx(total / tokens, rel=1e-5)


def test_masked_turns_are_context_and_never_targets(tmp_path: Any) -> None:
    """Behind the last learnt turn they change nothing; before it, only what is learnt after them."""
    learnt = (("Action: go", True), ("Action: bad", False))
    loss, grad = gradient(tmp_path, [talk(0, *learnt)])
    same, same_grad = gradient(tmp_path, [talk(0, learnt[0], ("Action: worse by far", False))])
    assert loss == same
    assert all(torch.equal(grad[name], same_grad[name]) for name in grad)
    masked, _ = gradient(tmp_path, [talk(0, *learnt, ("Action: wait", True))])
    unmasked, _ = gradient(tmp_path, [talk(0, learnt[0], ("Action: bad", True), ("Action: wait", True))])
    assert masked != unmasked


def test_what_is_dropped_is_counted(tokenizer: Any) -> None:
    dialogues = [talk(0, *TURNS), talk(1, ("a", False)), talk(2, ("b", True))]
    (kept, _), _ = encode_dialogues(dialogues, tokenizer, max_length=400)
    fits, _ = encode_dialogues(dialogues, tokenizer, max_length=kept.length)
    groups, counts = encode_dialogues(dialogues, tokenizer, max_length=kept.length - 1)
    assert [g.prompt_id for g in fits] == ["d0", "d2"]
    assert [g.prompt_id for g in groups] == ["d2"]
    assert (counts["examples"], counts["dropped_too_long"], counts["dropped_no_learnt_turn"]) == (3, 1, 1)


def test_flags_have_to_fit(tokenizer: Any) -> None:
    whole = talk(0, ("a", True))
    for loss, what in (([True], "2 messages and 1 loss flags"), ([True, True], "a turn of the user")):
        with pytest.raises(ValueError, match=what):
            encode_dialogues([whole.model_copy(update={"loss": loss})], tokenizer, max_length=100)


def test_nothing_to_learn_names_the_reasons(tmp_path: Any, ref: Any) -> None:
    with pytest.raises(TrainingError, match="1 no_learnt_turn"):
        DialogueSft().train(tiny_job(tmp_path, ref, [talk(0, ("a", False))]))  # type: ignore[list-item]


def test_one_turn_is_sft_bit_for_bit(tmp_path: Any, ref: Any) -> None:
    answers: list[RankedExample] = [example(i, scores=[1.0]) for i in range(6)]
    dialogues = [
        Dialogue(
            prompt_id=e.prompt_id,
            messages=[*e.messages, Message(role="assistant", content=e.responses[0])],
            loss=[False, True],
        )
        for e in answers
    ]
    one, other = tiny_job(tmp_path / "a", ref, answers), tiny_job(tmp_path / "b", ref, dialogues)  # type: ignore[arg-type]
    Sft().train(one)
    DialogueSft().train(other)
    assert file_bytes(one.out) == file_bytes(other.out)


def test_stopped_and_resumed_is_byte_identical(tmp_path: Any, ref: Any) -> None:
    dialogues: Any = [talk(i, *TURNS[: 1 + i % 4]) for i in range(10)]
    lora: dict[str, Any] = {"tuning": "lora", "lora": {"r": 4, "dropout": 0.05}, "epochs": 2}
    whole = tiny_job(tmp_path / "whole", ref, dialogues, **lora)
    DialogueSft().train(whole)
    with pytest.raises(Interrupted, match="step 4 of 6"):
        DialogueSft().train(tiny_job(tmp_path / "cut", ref, dialogues, stop_after=4, **lora))
    again = tiny_job(tmp_path / "cut", ref, dialogues, **lora)
    DialogueSft().train(again)
    assert file_bytes(again.out) == file_bytes(whole.out)


@pytest.mark.parametrize("template", [None, FORGETFUL, ""], ids=["stable", "rewriting", "no template"])
def test_encoding_by_pieces_is_encoding_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, template: str | None
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template if template is None else template
    dialogues = [talk(i, *TURNS[: 1 + i]) for i in range(4)]
    quick = encode_dialogues(dialogues, tokenizer, max_length=400)
    monkeypatch.setattr("itercli.training.dialogues._Encoder._joined", lambda self, messages: [])
    slow = encode_dialogues(dialogues, tokenizer, max_length=400)
    assert [[r.ids.tolist() for r in g.rows] for g in quick[0]] == [
        [r.ids.tolist() for r in g.rows] for g in slow[0]
    ]
    assert [[r.gaps for r in g.rows] for g in quick[0]] == [[r.gaps for r in g.rows] for g in slow[0]]
    assert quick[1] == slow[1]

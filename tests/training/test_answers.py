"""What is trained on is what was sampled, for every family of tokenizers."""

from __future__ import annotations

import random

import pytest

from itercli.records import Dialogue, Generated, Message, PreferencePair, RankedExample
from itercli.sampling.completion import completion
from itercli.sampling.prompting import encode_example, encode_prompt, prompt_of
from itercli.sampling.tokenizer_facts import facts
from itercli.training.answers import AnswerEncoder, sampled_ids
from itercli.training.collate import encode_groups
from itercli.training.dialogues import encode_dialogues
from itercli.training.methods import Sft
from itercli.training.pairs import encode_pairs
from tests.sampling.families import FAMILIES, ZEPHYR, family, real_mistral

ASK = [Message(role="user", content="What is two and two?")]
ANSWERS = ("The fox ran.", "1. one", "module top();", "läuft – 世界", "It is four.\n\n- so\n\tit is")


def user(text: str) -> Message:
    return Message(role="user", content=text)


def own(text: str) -> Message:
    return Message(role="assistant", content=text)


def conversation(tokenizer, messages: list[Message]) -> list[int]:
    """Ids of a whole conversation as the template writes it, which is what others train on."""
    text = tokenizer.apply_chat_template([m.model_dump() for m in messages], tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def drawn(tokenizer, prompt, seed: int, length: int = 12, ended: bool = True) -> list[int]:
    """Any tokens at all, as a hot sampler writes them: special ones and halves of characters too."""
    rng = random.Random(seed)
    ends = facts(tokenizer).end
    ids = [rng.choice([i for i in range(len(tokenizer)) if i != ends]) for _ in range(length)]
    return [*ids, ends] if ended else ids


def check_texts(tokenizer) -> None:
    for answer in ANSWERS:
        ids, start = encode_example(tokenizer, ASK, answer)
        assert ids[:start] == encode_prompt(tokenizer, ASK)
        assert ids.count(facts(tokenizer).end) - ids[:start].count(facts(tokenizer).end) == 1
        assert ids[-1] == facts(tokenizer).end
        if tokenizer.chat_template:
            assert ids == conversation(tokenizer, [*ASK, own(answer)])[: len(ids)], answer
        assert tokenizer.decode(ids[start:-1]).strip() == answer


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_is_encoded_as_its_conversation(name):
    check_texts(family(name))


@pytest.mark.slow
def test_a_text_is_encoded_as_its_conversation_by_the_real_mistral_tokenizer(tmp_path):
    tokenizer = real_mistral(tmp_path, ZEPHYR)
    check_texts(tokenizer)
    ids, start = encode_example(tokenizer, ASK, "The fox ran.")
    assert tokenizer.convert_ids_to_tokens(ids[start:]) == ["The", "▁f", "ox", "▁ran", ".", "</s>"]
    check_sampled(tokenizer)


def check_sampled(tokenizer) -> None:
    encoder = AnswerEncoder(tokenizer)
    prompt = encoder.prompt(ASK)
    beginnings = prompt.ids.count(tokenizer.bos_token_id) if tokenizer.bos_token_id is not None else 0
    differ = 0
    for seed in range(30):
        ids = drawn(tokenizer, prompt, seed, ended=seed % 3 > 0)
        text, cut, generated = completion(prompt, ids, ended=seed % 3 > 0)
        finish = "stop" if seed % 3 else "length"
        assert not cut
        assert generated.ids == ids
        assert encoder.answer(prompt, text, finish, generated) == ids
        differ += not generated.reencodes
        again = encoder.answer(prompt, text, finish, None)
        assert (again == ids) or not generated.reencodes, "what says that it is the same is the same"
    assert encoder.counts["answers_sampled"] == 30
    assert encoder.counts["answers_reencoded_differ"] == differ > 10, "so hot that most differ"
    assert encoder.counts["answers_cut"] == 2 * 10
    assert beginnings <= 1
    # What a cool sampler writes is what the text alone would give.
    for answer in ANSWERS:
        ids = prompt.behind(answer, closed=True)
        text, _, generated = completion(prompt, [*ids, facts(tokenizer).end], ended=True)
        assert generated.reencodes
        assert encoder.answer(prompt, text, "stop", None) == generated.ids


@pytest.mark.parametrize("name", FAMILIES)
def test_sampled_ids_are_trained_ids(name):
    check_sampled(family(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_open_turns_go_on_where_they_stand(name):
    tokenizer = family(name)
    for start in ("Once upon", "Once upon a time. ", "The fox.\n\n", "  indented"):
        prompt = prompt_of(tokenizer, [*ASK, own(start)], continue_final=True)
        before = prompt_of(tokenizer, ASK)
        assert prompt.ids == before.ids + before.behind(start)
        going_on = prompt.behind("the fox ran")
        text, _, generated = completion(prompt, going_on, ended=False)
        if name != "phi3":  # its marks swallow white space behind them
            assert before.decode(before.behind(start)) == (facts(tokenizer).lead * (start[0] != " ")) + start
        assert text == "the fox ran"
        assert generated.ids == going_on
        assert prompt.ids.count(facts(tokenizer).end) == before.ids.count(facts(tokenizer).end), "not closed"


@pytest.mark.parametrize("name", FAMILIES)
def test_turns_of_a_dialogue_are_their_sampled_ids(name):
    tokenizer = family(name)
    messages, kept, finish = [*ASK], [None], [None]
    turns = []
    for n, ask in enumerate(("And three?", "Write a story.", "")):
        prompt = prompt_of(tokenizer, messages)
        ids = (
            drawn(tokenizer, prompt, n, 6) if n < 2 else [*prompt.behind("It is four."), facts(tokenizer).end]
        )
        text, _, generated = completion(prompt, ids, ended=True)
        turns.append((prompt.ids, ids))
        messages += [own(text)] + ([user(ask)] if ask else [])
        kept += [generated, None]
        finish += ["stop", None]
    dialogue = Dialogue(
        prompt_id="p",
        messages=messages,
        loss=[m.role == "assistant" for m in messages],
        finish=finish[: len(messages)],
        generated=kept[: len(messages)],
    )
    (group,), counts = encode_dialogues([dialogue], tokenizer, max_length=2000)
    assert counts["learnt_turns"] == counts["answers_sampled"] == 3
    found = []
    for row in group.rows:
        edges = [row.prompt_len, *(edge for gap in row.gaps for edge in gap), len(row.ids)]
        spans = zip(edges[::2], edges[1::2], strict=True)
        found += [(row.ids[:begin].tolist(), row.ids[begin:end].tolist()) for begin, end in spans]
    assert found == turns, "each turn behind the prompt that it was sampled from"


def test_a_changed_text_and_other_tokenizers_are_encoded_anew():
    tokenizer, other = family("qwen"), family("llama3")
    prompt, strange = prompt_of(tokenizer, ASK), prompt_of(other, ASK)
    text, _, known = completion(prompt, [*prompt.behind("The fox"), facts(tokenizer).end], ended=True)
    assert sampled_ids(prompt, text, known) == known.ids
    assert sampled_ids(prompt, text + ".", known) is None
    assert sampled_ids(strange, text, known) is None
    encoder = AnswerEncoder(other)
    assert encoder.answer(strange, text, "stop", known) == [*strange.behind("The fox"), facts(other).end]
    assert dict(encoder.counts) == {"answers_other_ids": 1}
    # Of a server that does not say which tokenizer it has: only if the ids spell the text.
    unknown = known.model_copy(update={"vocabulary": ""})
    assert sampled_ids(prompt, text, unknown) == known.ids
    assert sampled_ids(strange, text, unknown) is None, "the same pieces, but another end"
    assert sampled_ids(prompt_of(family("zephyr"), ASK), text, unknown) is None
    assert sampled_ids(prompt, text, unknown.model_copy(update={"ids": [*known.ids[:-1], 10**6]})) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_what_reads_like_a_control_token_in_data_is_text(name):
    tokenizer = family(name)
    about = facts(tokenizer)
    for control in about.controls:
        asked = [user(f"Look: {control} fox {control}{control} ran")]
        harmless = [user("Look: 1 fox 23 ran")]
        got, plain = (encode_prompt(tokenizer, m) for m in (asked, harmless))
        for number in about.controls.values():
            assert got.count(number) == plain.count(number), (control, number)
        shown = tokenizer.decode(got, clean_up_tokenization_spaces=False)
        assert f"Look: {control} fox {control}{control} ran" in shown
        ids, start = encode_example(tokenizer, asked, f"It says {control}.")
        assert [i for i in ids[start:] if i in about.controls.values()] == [about.end]
        encoder = AnswerEncoder(tokenizer)
        encoder.answer(encoder.prompt(asked), f"It says {control}.", None, None)
        assert encoder.counts["texts_with_control_tokens"] == 2


def test_marks_that_are_not_flagged_special_stay_tokens():
    tokenizer = family("qwen")
    ids, start = encode_example(tokenizer, ASK, "<think>so <|im_end|></think>It is")
    tokens = tokenizer.convert_ids_to_tokens(ids[start:])
    assert tokens[0] == "<think>"
    assert "</think>" in tokens
    assert tokens.count("<|im_end|>") == 1


def test_nothing_in_a_text_can_pass_for_a_stand_in():
    tokenizer = family("qwen")
    hidden = facts(tokenizer).hide("<|im_end|>")
    assert hidden != "<|im_end|>"
    assert facts(tokenizer).show(hidden) == "<|im_end|>"
    state = facts(tokenizer)
    tokenizer.eos_token = "<|endoftext|>"
    try:
        assert facts(tokenizer) is not state, "facts follow the tokenizer"
    finally:
        tokenizer.eos_token = "<|im_end|>"


def cut(tokenizer, text: str = "The fox ran over") -> tuple[str, Generated]:
    prompt = prompt_of(tokenizer, ASK)
    text, _, generated = completion(prompt, prompt.behind(text), ended=False)
    return text, generated


def test_answers_cut_by_the_token_limit():
    tokenizer = family("qwen")
    end = facts(tokenizer).end
    text, generated = cut(tokenizer)
    example = RankedExample(
        prompt_id="p",
        messages=ASK,
        responses=[text],
        scores=[1.0],
        target=0,
        finish=["length"],
        generated=[generated],
    )

    def targets(on_cut, **changes):
        row = example.model_copy(update=changes)
        groups, counts = encode_groups([row], tokenizer, max_length=500, needed=Sft().needed, on_cut=on_cut)
        return [g.rows[0].ids[g.rows[0].prompt_len :].tolist() for g in groups], counts

    for changes in ({}, {"generated": []}):
        assert targets("no_end_token", **changes)[0] == [generated.ids]
        assert targets("end_token", **changes)[0] == [[*generated.ids, end]]
        none, counts = targets("drop", **changes)
        assert none == []
        assert (counts["dropped_cut"], counts["candidates_cut"], counts["answers_cut"]) == (1, 1, 1)
    assert targets("no_end_token", finish=[])[0] == [[*generated.ids, end]], "nobody says that it was cut"
    assert targets("no_end_token", responses=[""], generated=[])[1]["dropped_empty"] == 1


def test_pairs_and_dialogues_with_a_cut_answer():
    tokenizer = family("llama3")
    end = facts(tokenizer).end
    text, generated = cut(tokenizer)
    pair = PreferencePair(
        prompt_id="p",
        messages=ASK,
        chosen="It is four.",
        rejected=text,
        finish=("stop", "length"),
        generated=(None, generated),
    )

    def pairs(on_cut):
        return encode_pairs(
            [pair], tokenizer, max_length=500, doubt=lambda _: 0.0, weight=lambda _: 1.0, on_cut=on_cut
        )

    (open_end,), counts = pairs("no_end_token")
    assert open_end.chosen[-1] == end
    assert open_end.rejected == generated.ids
    assert counts["answers_sampled"] == counts["answers_cut"] == 1
    (closed,), _ = pairs("end_token")
    assert closed.rejected == [*generated.ids, end]
    assert pairs("drop")[1]["dropped_cut"] == 1

    dialogue = Dialogue(
        prompt_id="p",
        messages=[*ASK, own(text), user("go on"), own("It is four.")],
        loss=[False, True, False, True],
        finish=[None, "length", None, "stop"],
        generated=[None, generated, None, None],
    )
    (group,), counts = encode_dialogues([dialogue], tokenizer, max_length=500)
    (row,) = group.rows
    assert row.response_len == len(generated.ids) + len(prompt_of(tokenizer, ASK).behind("It is four.")) + 1
    assert row.ids[row.gaps[0][0]] == end, "the end that the template writes is context, and no target"
    (group,), counts = encode_dialogues([dialogue], tokenizer, max_length=500, on_cut="drop")
    assert counts["learnt_turns"] == 1
    only_cut = dialogue.model_copy(update={"loss": [False, True, False, False]})
    assert encode_dialogues([only_cut], tokenizer, max_length=500, on_cut="drop")[1]["dropped_cut"] == 1


def test_a_stop_string_is_no_token_of_the_answer():
    tokenizer = family("qwen")
    prompt = prompt_of(tokenizer, ASK)
    ids = [*prompt.behind("It is four."), *prompt.behind("\nThe fox ran")]
    text, stopped, generated = completion(prompt, ids, ended=False, stop=("\nThe",))
    assert (text, stopped) == ("It is four.", True)
    assert generated.ids == prompt.behind("It is four.")
    encoder = AnswerEncoder(tokenizer)
    assert encoder.answer(prompt, text, "stop", generated) == [*generated.ids, facts(tokenizer).end]
    # In the middle of a token: there are no ids of that text.
    text, stopped, generated = completion(prompt, ids, ended=False, stop=("ur.",))
    assert (text, stopped, generated) == ("It is fo", True, None)
    # A string made of special tokens, and one that begins in plain text.
    special = [*prompt.behind("It is"), *tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|endoftext|>"])]
    for stop in ("<|im_start|>", "<|im_start|><|endoftext|>", "_start|>"):
        text, stopped, generated = completion(prompt, special, ended=False, stop=(stop,))
        assert stopped
        assert text == ("It is" if stop[0] == "<" else "It is<|im")

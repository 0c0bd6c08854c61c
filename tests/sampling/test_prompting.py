"""Messages to ids: one BOS, the same prompt in sampling and training, an end to learn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from itercli.records import Message
from itercli.sampling.prompting import (
    encode_example,
    encode_prompt,
    end_of_turn_id,
    end_token_ids,
    render,
)
from tests.sampling.conftest import save_tokenizer

TURNS = [Message(role="system", content="be brief"), Message(role="user", content="count to 3")]


@pytest.fixture
def load(tmp_path):
    from transformers import AutoTokenizer

    def get(**options):
        save_tokenizer(tmp_path, **options)
        return AutoTokenizer.from_pretrained(tmp_path)

    return get


def test_chat_template(load):
    tokenizer = load()
    text = render(tokenizer, TURNS)
    assert text.endswith("count to 3<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(encode_prompt(tokenizer, TURNS)) == text
    opened = [*TURNS, Message(role="assistant", content="1, 2")]
    assert render(tokenizer, opened, continue_final=True) == text + "1, 2"


def test_without_a_template_contents_are_joined(load):
    tokenizer = load(chat=False)
    assert render(tokenizer, TURNS) == "be brief\ncount to 3"
    assert tokenizer.decode(encode_prompt(tokenizer, TURNS)) == "be brief\ncount to 3"


def test_one_bos_and_no_eos_in_the_prompt(load):
    from tokenizers import processors

    tokenizer = load(chat=False)
    tokenizer.bos_token = "<|endoftext|>"
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", bos), ("<|im_end|>", eos)]
    )
    plain = encode_prompt(tokenizer, TURNS)
    assert plain[0] == bos
    assert eos not in plain
    doubled = encode_prompt(tokenizer, [Message(role="user", content="<|endoftext|>x")])
    assert doubled.count(bos) == 1
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert encode_prompt(tokenizer, TURNS).count(bos) == 1


@pytest.mark.parametrize("chat", [True, False])
def test_example_is_sampling_prompt_then_answer_then_end(load, chat):
    tokenizer = load(chat=chat)
    ids, length = encode_example(tokenizer, TURNS, "1, 2, 3.")
    assert ids[:length] == encode_prompt(tokenizer, TURNS)
    assert tokenizer.decode(ids[length:-1]) == "1, 2, 3."
    assert ids[-1] == end_of_turn_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    empty, length = encode_example(tokenizer, TURNS, "")
    assert len(empty) == length + 1


def test_the_template_decides_what_ends_a_turn(load):
    tokenizer = load()
    tokenizer.eos_token = "<|endoftext|>"
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end_of_turn_id(tokenizer) == end != tokenizer.eos_token_id
    config = SimpleNamespace(eos_token_id=[7, 2])
    assert end_token_ids(tokenizer, config) == (0, 2, 7)
    assert end_token_ids(tokenizer, SimpleNamespace(eos_token_id=None)) == (0, 2)
    assert end_token_ids(tokenizer) == (0, 2)


def test_no_end_token_is_an_error(load):
    tokenizer = load(chat=False)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither an eos token"):
        encode_example(tokenizer, TURNS, "x")

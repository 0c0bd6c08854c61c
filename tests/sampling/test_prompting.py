"""Messages to ids: one BOS, the same prompt in sampling and training, an end to learn."""

from __future__ import annotations

from pathlib import Path
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
from tests.sampling.conftest import CHAT_TEMPLATE, save_tokenizer

TURNS = [Message(role="system", content="be brief"), Message(role="user", content="count to 3")]


@pytest.fixture
def load(tmp_path):
    from transformers import AutoTokenizer

    def get(**options):
        save_tokenizer(tmp_path, **options)
        return AutoTokenizer.from_pretrained(tmp_path)

    return get


def add_bos(tokenizer):
    """Let the tokenizer itself put a BOS before and an EOS behind every text."""
    from tokenizers import processors

    tokenizer.bos_token = "<|endoftext|>"
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", bos), ("<|im_end|>", eos)]
    )
    return bos, eos


def test_chat_template(load):
    tokenizer = load()
    text = render(tokenizer, TURNS)
    assert text.endswith("count to 3<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(encode_prompt(tokenizer, TURNS)) == text
    opened = [*TURNS, Message(role="assistant", content="1, 2")]
    assert render(tokenizer, opened, continue_final=True) == text + "1, 2"


LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
TEMPLATES = {
    "chatml": CHAT_TEMPLATE,
    "writes a BOS and trims": LLAMA3,
    "refuses an assistant's turn at the end": (
        "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('user last') }}{% endif %}" + LLAMA3
    ),
    "drops what it takes for thoughts": LLAMA3.replace(
        "m['content'] | trim", "m['content'].split('</think>')[-1] | trim"
    ),
    "none": None,
}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    "start",
    ["Once upon", "Once upon a time. ", "Part one.\n\n", "\n  indented", "<think>hm</think>\n\nSo", ""],
)
def test_an_open_turn_stands_as_it_is(template, start, load):
    """Whatever the template does to a closed turn, and with the ids of a training example."""
    tokenizer = load()
    tokenizer.chat_template = TEMPLATES[template]
    add_bos(tokenizer)
    opened = [*TURNS, Message(role="assistant", content=start)]
    text = render(tokenizer, opened, continue_final=True)
    assert text == render(tokenizer, TURNS) + start
    ids = encode_prompt(tokenizer, opened, continue_final=True)
    assert tokenizer.decode(ids).removeprefix("<|endoftext|>") == text.removeprefix("<|endoftext|>")
    assert ids.count(tokenizer.bos_token_id) == (0 if template == "chatml" else 1)
    assert ids == encode_example(tokenizer, TURNS, start)[0][:-1]


def test_the_open_turn_of_smollm2():
    folder = Path("~/.cache/itercli/models/smollm2-135m").expanduser()
    if not folder.is_dir():
        pytest.skip("iter models pull smollm2-135m")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for start in ("Once upon a time", "Once upon a time. ", "One.\n\nTwo"):
        opened = [TURNS[1], Message(role="assistant", content=start)]
        ids = encode_prompt(tokenizer, opened, continue_final=True)
        text = tokenizer.decode(ids)
        assert text.endswith(f"count to 3<|im_end|>\n<|im_start|>assistant\n{start}")
        assert text.count("<|im_start|>") == 3, "the template's system turn, the user's, the open one"
        # Where transformers' own way keeps the text, it is the same.
        turns = [{"role": m.role, "content": m.content} for m in opened]
        assert text == tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True)


def test_only_the_assistants_turn_is_continued(load):
    with pytest.raises(ValueError, match="assistant message at the end"):
        render(load(), TURNS, continue_final=True)


def test_without_a_template_contents_are_joined(load):
    tokenizer = load(chat=False)
    assert render(tokenizer, TURNS) == "be brief\ncount to 3"
    assert tokenizer.decode(encode_prompt(tokenizer, TURNS)) == "be brief\ncount to 3"


def test_one_bos_and_no_eos_in_the_prompt(load):
    tokenizer = load(chat=False)
    bos, eos = add_bos(tokenizer)
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

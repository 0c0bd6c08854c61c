"""The date in a chat template is the recipe's, on every day."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from itercli.models import ModelSpec, resolve
from itercli.models.known import TINY_RTL
from itercli.models.load import load_tokenizer
from itercli.models.template_date import DEFAULT, date_string
from itercli.records import Message, ModelRef
from itercli.sampling.prompting import encode_prompt, render

ASK = [Message(role="user", content="x")]


@pytest.fixture
def dated(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(TINY_RTL, tmp_path / "dated"))
    template = folder / "chat_template.jinja"
    template.write_text("Today: {{ strftime_now('%d %b %Y %H:%M:%S.%f') }}\n" + template.read_text("utf-8"))
    return folder


def ref_of(folder: Path, date: str | None = None) -> ModelRef:
    return ModelRef(base=str(folder), version="policy@0", digest="d", template_date=date)


def test_a_dated_prompt_is_the_same_at_any_time(dated: Path) -> None:
    first, second = load_tokenizer(ref_of(dated)), load_tokenizer(ref_of(dated))
    assert "Today: 26 Jul 2024 00:00:00.000000<|user|>" in render(first, ASK)
    assert encode_prompt(first, ASK) == encode_prompt(second, ASK)
    assert "Today: 31 Jan 2025 00:00" in render(load_tokenizer(ref_of(dated, "2025-01-31")), ASK)
    plain = load_tokenizer(ref_of(TINY_RTL))
    assert render(plain, ASK) == render(load_tokenizer(ref_of(TINY_RTL, "2025-01-31")), ASK)


def test_only_a_dated_template_has_its_date_in_the_plan(dated: Path) -> None:
    assert resolve(ModelSpec(path=str(dated))).template_date == DEFAULT == "2024-07-26"
    assert resolve(ModelSpec(path=str(dated), template_date="2025-01-31")).template_date == "2025-01-31"
    assert resolve(ModelSpec(path=str(TINY_RTL), template_date="2025-01-31")).template_date is None
    assert date_string("2025-01-31") == "31 Jan 2025"
    with pytest.raises(ValidationError, match="YYYY-MM-DD"):
        ModelSpec(path="x", template_date="31 Jan 2025")

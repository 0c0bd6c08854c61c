"""Conversations: what a recipe gives of one, and the action in an answer."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from itercli.environments.base import Conversation, EnvironmentSpec
from itercli.environments.scienceworld import ScienceWorldSpec
from itercli.environments.textcraft import TextCraft
from itercli.environments.textworld import TextWorldSpec
from tests.environments.toy import DoorsSpec


@pytest.mark.parametrize("spec", [ScienceWorldSpec, TextWorldSpec, TextCraft, DoorsSpec, EnvironmentSpec])
@pytest.mark.parametrize("given", [{}, {"system": "Be quick."}, {"instruction": "", "action": "line"}])
def test_what_is_left_out_is_the_environments(spec: type[EnvironmentSpec], given: dict[str, Any]) -> None:
    own = spec().conversation
    assert spec.model_validate({"conversation": given}).conversation == own.model_copy(update=given)
    with pytest.raises(ValidationError, match=r"conversation\.sistem"):
        spec.model_validate({"conversation": {"sistem": "Be quick."}})


def test_a_whole_conversation_stands_as_it_is() -> None:
    bare = Conversation(system="Be quick.")
    assert ScienceWorldSpec(conversation=bare).conversation == bare


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("Thought: in\nAction: open door", "open door"),
        ("Action: 1. open door", "open door"),
        ("**Action:** open door", "open door"),
        ("**Thought:** in\n**Action:**\n`open door`", "open door"),
        ("**Action: open door**", "open door"),
        ("Action: 1. **open door**\n2. go in", "open door"),
        ("Action: **2.\topen door**", "open door"),
        ("Action: 3 oak planks", "3 oak planks"),
        ("Action: 1.5 oak planks", "1.5 oak planks"),
        ("Action: 12", "12"),
        ("Action: use 2 * 3 on `x` now", "use 2 * 3 on `x` now"),
        ("I say\n1. open door", "open door"),
        ("```\nopen door\n```", "open door"),
        ("Action:", ""),
        ("***", ""),
        ("", ""),
    ],
)
def test_the_action_in_an_answer(answer: str, action: str) -> None:
    assert Conversation().read(answer) == action


@pytest.mark.parametrize(("action", "read"), [("line", "go in"), ("react", "open door")])
def test_line_takes_the_last_one(action: Literal["line", "react"], read: str) -> None:
    assert Conversation(action=action).read("Action: `open door`\n2. go in\n") == read

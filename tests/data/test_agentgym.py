"""Tasks of AgentGym's servers by number."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from itercli.data.agentgym import AgentGymTasks


def tasks(**options: Any) -> list[dict[str, Any]]:
    return [prompt.meta["task"] for prompt in AgentGymTasks.model_validate(options).prompts()]


def test_numbers_and_ranges() -> None:
    assert tasks(kind="webshop", ids=[9, "3-5", 0]) == [{"id": n} for n in (9, 3, 4, 5, 0)]
    one, same = AgentGymTasks(kind="webshop", ids="2-4"), AgentGymTasks(kind="webshop", ids=(2, 3, 4))
    assert one.key_params() == same.key_params()
    with pytest.raises(ValidationError, match="the range 9-3 is empty; write it as 3-9"):
        AgentGymTasks.model_validate({"kind": "webshop", "ids": [1, "9-3"]})
    for wrong in ("4-2", [], [-1], ["a-b"]):
        with pytest.raises(ValidationError):
            AgentGymTasks(kind="webshop", ids=wrong)


def test_published_numbers_of_sciworld_are_translated_for_todays_servers() -> None:
    ids = [0, 1095, 1096, 4338]
    # Behind 2-3 and its 300 variations, servers that count it are ahead by these.
    assert [task["id"] for task in tasks(kind="sciworld", ids=ids)] == [0, 1095, 1396, 4638]
    published = tasks(kind="sciworld", ids=ids, server_tasks=4339)
    assert [task.pop("id") for task in published] == ids
    assert published[2] == {"task": "power-component", "variation": 0}
    with pytest.raises(ValidationError, match="no id 4339; they begin at 0, those of sciworld end at 4338"):
        AgentGymTasks(kind="sciworld", ids=[4339])


def test_rows_name_their_environment() -> None:
    (prompt,) = AgentGymTasks(kind="textcraft", ids=[4]).prompts()
    assert (prompt.id, prompt.meta["environment"]) == ("agentgym.textcraft/4", "agentgym.textcraft")
    (prompt,) = AgentGymTasks(kind="webshop", ids=[4], label="big-shop").prompts()
    assert (prompt.id, prompt.meta["environment"]) == ("big-shop/4", "big-shop")
    (prompt,) = AgentGymTasks(kind="sciworld", ids=[31]).prompts()
    assert prompt.messages[0].content.startswith("Matter: Changes of State (Melting)")
